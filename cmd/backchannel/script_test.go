package main

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// TestScripts runs the command line against a really running broker, as testdata/script tells.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "../../testdata/script", Deadline: time.Now().Add(90 * time.Second),
		Setup: func(e *testscript.Env) error {
			e.Values[brokerKey{}] = &scriptBroker{}
			// A process with the race detector waits a second at its end, for reports of goroutines that nobody waited for.
			e.Setenv("GORACE", "atexit_sleep_ms=10")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"broker": startScriptBroker, "signal": signalBroker, "logged": waitForLog, "capture": capture,
		},
	})
}

type brokerKey struct{}

// scriptBroker is the broker of one script.
type scriptBroker struct {
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process is gone

	mu    sync.Mutex
	lines []string      // guarded by mu; its log
	heard int           // lines that await has passed; the script's goroutine only
	more  chan struct{} // guarded by mu; closed and replaced with each line
}

func brokerOf(ts *testscript.TestScript) *scriptBroker {
	b, ok := ts.Value(brokerKey{}).(*scriptBroker)
	if !ok {
		ts.Fatalf("BUG: Setup made no broker")
	}
	return b
}

// startScriptBroker is `broker [ARGS...]`: serve with these arguments, ready when it returns. It sets PUBLIC and ADMIN
// and, if standard output tells a DSN, MADE_DSN.
func startScriptBroker(ts *testscript.TestScript, neg bool, args []string) {
	b := brokerOf(ts)
	b.mu.Lock()
	b.lines, b.heard, b.more, b.exited = nil, 0, make(chan struct{}), make(chan struct{})
	b.mu.Unlock()
	path, err := exec.LookPath("backchannel")
	ts.Check(err)
	b.cmd = exec.Command(path, append([]string{"serve", "--log", "json"}, args...)...) //nolint:noctx // ended by Defer
	b.cmd.Dir = ts.MkAbs(".")
	// Not this process's environment: what configures the broker stands in the script.
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "GORACE", "BACKCHANNEL_CONFIG"} {
		b.cmd.Env = append(b.cmd.Env, name+"="+ts.Getenv(name))
	}
	stderr, err := b.cmd.StderrPipe()
	ts.Check(err)
	stdout, err := b.cmd.StdoutPipe()
	ts.Check(err)
	ts.Check(b.cmd.Start())
	ts.Defer(func() {
		_ = b.cmd.Process.Kill()
		<-b.exited
	})
	var readers sync.WaitGroup
	readers.Go(func() { b.read(stderr) })
	readers.Go(func() { b.read(stdout) })
	go func() {
		defer close(b.exited)
		readers.Wait()
		_ = b.cmd.Wait()
	}()
	line := b.await(ts, `"msg":"listening"|^backchannel: `)
	b.heard = 0 // standard output may have been read before the log
	if failed := strings.HasPrefix(line, "backchannel: "); failed != neg {
		ts.Fatalf("serve: %s", strings.Join(b.log(), "\n"))
	}
	if neg {
		ts.Logf("%s", line)
		return
	}
	var l struct{ Public, Admin string }
	ts.Check(json.Unmarshal([]byte(line), &l))
	ts.Setenv("PUBLIC", l.Public)
	ts.Setenv("ADMIN", l.Admin)
}

func (b *scriptBroker) read(r io.Reader) {
	scan := bufio.NewScanner(r)
	for scan.Scan() {
		b.mu.Lock()
		b.lines = append(b.lines, scan.Text())
		close(b.more)
		b.more = make(chan struct{})
		b.mu.Unlock()
	}
}

func (b *scriptBroker) log() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.lines...)
}

// await returns the next line of the log that matches.
func (b *scriptBroker) await(ts *testscript.TestScript, pattern string) string {
	re, err := regexp.Compile(pattern)
	ts.Check(err)
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	for {
		b.mu.Lock()
		lines, more := b.lines, b.more
		b.mu.Unlock()
		for ; b.heard < len(lines); b.heard++ {
			if l := lines[b.heard]; re.MatchString(l) {
				b.heard++
				return l
			}
		}
		select {
		case <-more:
		case <-b.exited:
			select {
			case <-more:
				continue
			default:
			}
			ts.Fatalf("the broker ended without saying %s:\n%s", pattern, strings.Join(b.log(), "\n"))
		case <-timer.C:
			ts.Fatalf("the broker does not say %s:\n%s", pattern, strings.Join(b.log(), "\n"))
		}
	}
}

// waitForLog is `logged REGEXP`: waits until the broker has said it.
func waitForLog(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: logged REGEXP")
	}
	b := brokerOf(ts)
	ts.Logf("%s", b.await(ts, args[0]))
}

// signalBroker is `signal TERM|HUP|KILL`: after TERM and KILL it waits for the end, and TERM has to end with code 0.
func signalBroker(ts *testscript.TestScript, _ bool, args []string) {
	b := brokerOf(ts)
	sig := map[string]syscall.Signal{"TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL}[args[0]]
	ts.Check(b.cmd.Process.Signal(sig))
	if sig == syscall.SIGHUP {
		return
	}
	timer := time.NewTimer(30 * time.Second)
	defer timer.Stop()
	select {
	case <-b.exited:
	case <-timer.C:
		ts.Fatalf("the broker did not end")
	}
	if code := b.cmd.ProcessState.ExitCode(); sig == syscall.SIGTERM && code != 0 {
		ts.Fatalf("the broker ended with %d:\n%s", code, strings.Join(b.log(), "\n"))
	}
}

// capture is `capture NAME`: the last command's standard output, without its end of line, becomes a variable.
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: capture NAME")
	}
	ts.Setenv(args[0], strings.TrimSpace(ts.ReadFile("stdout")))
}
