package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

// TestMain lets scripts run this binary as backchannel, and looks for goroutines left after all tests.
func TestMain(m *testing.M) {
	testscript.Main(leakChecked{m}, map[string]func(){"backchannel": main})
}

type leakChecked struct{ m *testing.M }

// Run implements testscript.TestingM.
func (l leakChecked) Run() int {
	code := l.m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "goroutines left after all tests:", err)
			return 1
		}
	}
	return code
}

// result is what a command line did.
type result struct {
	code     int
	out, err string
}

// run executes a command line in a world of its own: environ and standard input are what is given.
func run(t *testing.T, stdin string, environ []string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	u := &ui{
		in: strings.NewReader(stdin), out: &out, err: &errs, environ: environ, now: time.Now,
		exit: func(code int) { t.Errorf("the process would have ended with %d", code) },
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	code := u.run(ctx, args)
	return result{code: code, out: out.String(), err: errs.String()}
}

// mustRun is run for a command that has to succeed; it returns standard output.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	r := run(t, "", nil, args...)
	if r.code != exitOK {
		t.Fatalf("%s: code %d\n%s", strings.Join(args, " "), r.code, r.err)
	}
	return r.out
}
