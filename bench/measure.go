package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"backchannel/bench/internal/proc"
	"backchannel/bench/internal/report"
	"backchannel/bench/internal/scenario"
	"backchannel/bench/internal/target"
)

// storeScenario is the one that is not a load on a server: the product's own benchmark of its store.
const storeScenario = "store"

func scenarioNames() (names []string) {
	for _, sc := range scenario.All(scenario.Full()) {
		names = append(names, sc.Name)
	}
	return append(names, storeScenario)
}

func serverNames() (names []string) {
	for _, k := range target.Kinds() {
		names = append(names, k.Name)
	}
	return names
}

// wanted tells whether a name is among those asked for: all, if none is.
func wanted(name string, asked []string) bool {
	return len(asked) == 0 || slices.ContainsFunc(asked, func(a string) bool { return strings.HasPrefix(name, a) })
}

// known refuses names that match nothing.
func known(flag string, asked, names []string) error {
	for _, a := range asked {
		if !slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(n, a) }) {
			return fmt.Errorf("-%s: %q is none of %s", flag, a, strings.Join(names, ", "))
		}
	}
	return nil
}

// measure runs what was asked for and reports it.
func (o *options) measure(ctx context.Context, cores proc.Cores) error {
	if err := errors.Join(known("only", o.only, scenarioNames()), known("servers", o.servers, serverNames())); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "backchannel-bench-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }() // #nosec G703 -- made above
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &scenario.Bench{Host: &target.Host{Cores: cores, Dir: dir, Self: self, Checkout: o.checkout}, Sizes: scenario.Full()}
	if o.quick {
		b.Sizes = scenario.Quick()
	}
	if o.profile {
		b.Host.Profiles, err = os.Getwd()
		if err != nil {
			return err
		}
	}
	d := &report.Document{Missing: map[string]string{}}
	kinds := o.prepare(ctx, b.Host, d)
	o.waitForQuiet(ctx)
	d.Conditions = conditions(o, b, kinds)
	err = o.scenarios(ctx, b, kinds, d)
	return errors.Join(err, o.write(d))
}

// prepare builds and finds servers; what is missing is said and left out.
func (o *options) prepare(ctx context.Context, h *target.Host, d *report.Document) (kinds []target.Kind) {
	for _, k := range target.Kinds() {
		if !wanted(k.Name, o.servers) {
			continue
		}
		if err := k.Prepare(ctx, h); err != nil {
			d.Missing[k.Name] = err.Error()
			fmt.Printf("missing: %s: %v\n", k.Name, err)
			continue
		}
		kinds = append(kinds, k)
	}
	return kinds
}

func (o *options) waitForQuiet(ctx context.Context) {
	for end := time.Now().Add(o.wait); time.Now().Before(end) && loadAverage() >= 0.7; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(2 * time.Second):
		}
	}
}

// scenarios runs them one after another; within one the servers take turns.
func (o *options) scenarios(ctx context.Context, b *scenario.Bench, kinds []target.Kind, d *report.Document) error {
	for _, sc := range scenario.All(b.Sizes) {
		if !wanted(sc.Name, o.only) {
			continue
		}
		runs := o.runs
		if sc.Once {
			runs = 1
		}
		for i := range runs {
			for _, k := range kinds {
				if !sc.Fits(k.Features) {
					continue
				}
				r := b.Run(ctx, sc, k, i)
				d.Results = append(d.Results, r)
				if r.Error != "" {
					fmt.Fprintf(os.Stderr, "%s, %s, run %d: %s\n", sc.Name, k.Name, i+1, r.Error)
				}
				if err := ctx.Err(); err != nil {
					return err
				}
			}
		}
		d.Table(os.Stdout, sc.Name, sc.About)
	}
	if wanted(storeScenario, o.only) && wanted("backchannel", o.servers) {
		return o.store(ctx, b, d)
	}
	return nil
}

func (o *options) store(ctx context.Context, b *scenario.Bench, d *report.Document) error {
	benchTime := "1s"
	if o.quick {
		benchTime = "100x"
	}
	for i := range o.runs {
		results, err := b.Store(ctx, i, benchTime)
		if err != nil {
			return err
		}
		d.Results = append(d.Results, results...)
	}
	for _, n := range []string{"1", "64", "256"} {
		d.Table(os.Stdout, storeScenario+"-"+n, n+" publishers inside the process, and the disk")
	}
	return nil
}

// write leaves the results where they were asked for and judges the goals.
func (o *options) write(d *report.Document) error {
	fmt.Println()
	for _, g := range d.Goals() {
		if g.Known {
			verdict := map[bool]string{true: "met", false: "NOT MET"}[g.Met]
			fmt.Printf("%-8s %s: %s (%s)\n", verdict, g.What, g.Got, g.Want)
		}
	}
	if o.json != "" {
		if err := d.Write(o.json); err != nil {
			return err
		}
	}
	if !o.docs {
		return nil
	}
	docs := filepath.Join(o.checkout, "docs")
	old, err := report.Read(filepath.Join(docs, "performance", "results.json"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case old.Conditions.Quick == d.Conditions.Quick:
		d.Merge(old)
	}
	return d.WriteDocs(docs)
}
