package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"backchannel/bench/internal/peers"
	"backchannel/bench/internal/proc"
	"backchannel/bench/internal/report"
)

func main() {
	if err := run(os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) >= 2 && args[0] == "peer" { // this program in the role of a server
		return peers.Run(context.Background(), args[1], len(args) > 2, os.Stdout)
	}
	o, err := parse(args)
	if err != nil {
		return err
	}
	if o.render != "" {
		d, err := report.Read(o.render)
		if err != nil {
			return err
		}
		return d.WriteDocs(filepath.Join(o.checkout, "docs"))
	}
	cores, err := proc.Pin(o.urgent)
	if err != nil {
		return err
	}
	// The account of a run grows and is thrown away whole: collecting it often would cost the generator's core.
	debug.SetGCPercent(400)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return o.measure(ctx, cores)
}

// options are the flags.
type options struct {
	quick, docs, profile, urgent bool
	runs                         int
	only, servers                []string
	dir, json, checkout          string
	render                       string
	wait                         time.Duration
}

func parse(args []string) (*options, error) {
	o := &options{}
	var only, servers string
	fl := flag.NewFlagSet("bench", flag.ContinueOnError)
	fl.Usage = func() {
		_, _ = fmt.Fprint(fl.Output(), "Measures Backchannel beside its peers and a bare broadcaster.\n\nUsage: go run . [flags]\n\n")
		fl.PrintDefaults()
		_, _ = fmt.Fprint(fl.Output(), "\nScenarios: "+strings.Join(scenarioNames(), ", ")+"\nServers:   "+strings.Join(serverNames(), ", ")+"\n")
	}
	fl.BoolVar(&o.quick, "quick", false, "small sizes and one short run of each: a smoke test of about a minute")
	fl.BoolVar(&o.docs, "docs", false, "write docs/performance.md and its plots; with -only or -servers, the rest is kept")
	fl.BoolVar(&o.profile, "profile", false, "save a profile of Backchannel in each scenario, of CPU or of memory, as profile-*.pprof; its figures get a little worse")
	fl.BoolVar(&o.urgent, "priority", false, "run server and generator at nice -15, for a machine that others use too; needs root")
	fl.IntVar(&o.runs, "runs", 3, "`runs` of each, of which the median counts")
	fl.StringVar(&only, "only", "", "`scenarios` to run, by name or the beginning of one, separated by commas")
	fl.StringVar(&servers, "servers", "", "`servers` to measure, separated by commas; all by default")
	fl.StringVar(&o.dir, "dir", os.TempDir(), "`directory` for binaries and stores: on the disk that is to be measured")
	fl.StringVar(&o.json, "json", "", "`file` for the figures of every run")
	fl.StringVar(&o.checkout, "checkout", "..", "`directory` of the product")
	fl.StringVar(&o.render, "render", "", "measure nothing; write the documents from this JSON `file`")
	fl.DurationVar(&o.wait, "wait", 0, "wait at most so `long` for a load of the machine below 0.7 before the first run")
	if err := fl.Parse(args); err != nil {
		return nil, err
	}
	if fl.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q; all options are flags, see -h", fl.Arg(0))
	}
	o.only, o.servers = list(only), list(servers)
	if o.quick {
		o.runs = 1
	}
	if o.runs < 1 || o.runs > 20 {
		return nil, fmt.Errorf("-runs %d: want 1 to 20", o.runs)
	}
	var err error
	o.checkout, err = filepath.Abs(o.checkout)
	return o, err
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
