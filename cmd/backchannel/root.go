package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

// Exit codes, for scripts.
const (
	exitOK     = 0
	exitFailed = 1 // it was tried and did not succeed: the broker refused, was not reached, or stopped with an error
	exitUsage  = 2 // it was not tried: arguments or configuration are wrong
)

// ui is what a command has of the world around it.
type ui struct {
	in       io.Reader
	out, err io.Writer
	environ  []string
	now      func() time.Time
	exit     func(code int) // ends the process at once: a second signal's wish

	config string // --config
	began  bool   // a command's own code was reached
}

// usageError marks what was wrong before anything was tried.
type usageError struct{ error }

// Unwrap gives the finding itself.
func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run executes one command line and returns the exit code. Errors have been printed on standard error.
func (u *ui) run(ctx context.Context, args []string) int {
	root := u.root()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	switch _, usage := errors.AsType[usageError](err); {
	case err == nil:
		return exitOK
	case usage || !u.began:
		_, _ = fmt.Fprintln(u.err, "backchannel:", err)
		return exitUsage
	default:
		_, _ = fmt.Fprintln(u.err, "backchannel:", err)
		return exitFailed
	}
}

func (u *ui) root() *cobra.Command {
	root := &cobra.Command{
		Use:           "backchannel",
		Short:         "Server-Sent Events and webhook callbacks for learning-management systems",
		SilenceUsage:  true,
		SilenceErrors: true,
		// Cobra calls this only when arguments and flags are right: what fails later was tried.
		PersistentPreRun: func(*cobra.Command, []string) { u.began = true },
	}
	root.SetIn(u.in)
	root.SetOut(u.out)
	root.SetErr(u.err)
	root.PersistentFlags().StringVar(&u.config, "config", "", "configuration `file` (default $BACKCHANNEL_CONFIG, ./backchannel.toml, /etc/backchannel/backchannel.toml)")
	root.AddCommand(u.commands()...)
	return root
}

// commands are all there are.
func (u *ui) commands() []*cobra.Command {
	return []*cobra.Command{
		serveCommand(u), checkCommand(u), siteCommand(u),
		grantCommand(u), publishCommand(u), tailCommand(u), sendCommand(u), revokeCommand(u),
		streamsCommand(u), deliveriesCommand(u), demoCommand(u), versionCommand(u),
	}
}

// source is where this command line's configuration comes from.
func (u *ui) source() Source { return Source{Path: u.config, Environ: u.environ} }

// load reads the configuration; a finding is the user's to mend, so it is exit code 2.
func (u *ui) load() (*Config, error) {
	c, err := u.source().Load()
	if err != nil {
		return nil, usageError{err}
	}
	return c, nil
}

// interruptible ends ctx at SIGINT and SIGTERM, for commands that run until stopped.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// print writes a line of result.
func (u *ui) print(args ...any) error {
	_, err := fmt.Fprintln(u.out, args...)
	return err
}

// note writes a line for the human beside the result.
func (u *ui) note(format string, args ...any) { _, _ = fmt.Fprintf(u.err, format+"\n", args...) }
