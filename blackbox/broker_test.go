package blackbox_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const startLimit = 20 * time.Second

// brokerProcess is the real binary under test, with a data directory that outlives its kills. Its port changes with
// every start: clients ask url again when they connect. Safe for use by many goroutines.
type brokerProcess struct {
	t      testing.TB
	dir    string
	conf   config
	socket *os.File // for socket activation, nil otherwise

	mu     sync.Mutex
	cmd    *exec.Cmd     // guarded by mu; nil while it is down
	exited chan struct{} // guarded by mu; closed when cmd has been waited for
	public string        // guarded by mu; of the newest start
	admin  string        // guarded by mu
	log    []string      // guarded by mu; all of standard error
	starts int           // guarded by mu
	since  time.Time     // guarded by mu; when it last began to listen
}

// startBroker starts a broker and stops it when the test ends. What it logged is shown if the test failed, and it
// fails the test if it panicked or logged a token.
func startBroker(t testing.TB, conf config) *brokerProcess {
	t.Helper()
	b := &brokerProcess{t: t, dir: t.TempDir(), conf: conf}
	b.writeConfig()
	b.start()
	t.Cleanup(b.finish)
	return b
}

func (b *brokerProcess) configFile() string { return filepath.Join(b.dir, "backchannel.toml") }

func (b *brokerProcess) writeConfig() {
	b.t.Helper()
	mustWrite(b.t, b.configFile(), b.conf.toml(filepath.Join(b.dir, "data")))
}

// start runs the binary and returns when it listens.
func (b *brokerProcess) start() {
	b.t.Helper()
	if err := b.tryStart(); err != "" {
		b.t.Fatal(err)
	}
}

// tryStart is start for goroutines other than the test's; it returns what went wrong.
func (b *brokerProcess) tryStart() string {
	bin, err := brokerBinary()
	if err != nil {
		return err.Error()
	}
	cmd := exec.Command(bin, "serve", "--config", b.configFile(), "--log", "json") //nolint:noctx // it is ended by finish
	cmd.Dir, cmd.Env = b.dir, cleanEnviron()
	if b.socket != nil {
		activated(cmd, b.socket)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err.Error()
	}
	if err := cmd.Start(); err != nil {
		return err.Error()
	}
	exited, listening := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(exited)
		b.readLog(stderr, sync.OnceFunc(func() { close(listening) }))
		cmd.Wait() //nolint:errcheck // tests look at cmd.ProcessState
	}()
	b.mu.Lock()
	b.cmd, b.exited = cmd, exited
	b.starts++
	b.mu.Unlock()
	timer := time.NewTimer(startLimit)
	defer timer.Stop()
	select {
	case <-listening:
		return ""
	case <-exited:
		return "the broker ended at its start:\n" + b.lastLog(20)
	case <-timer.C:
		return "the broker did not listen within " + startLimit.String() + ":\n" + b.lastLog(20)
	}
}

// cleanEnviron keeps the configuration of the machine that runs the tests out of the broker.
func cleanEnviron() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "BACKCHANNEL_") {
			env = append(env, e)
		}
	}
	return env
}

func (b *brokerProcess) readLog(r io.Reader, listening func()) {
	br := bufio.NewReader(r)
	for {
		line, err := br.ReadString('\n')
		if line != "" {
			var l struct{ Msg, Public, Admin string }
			heard := json.Unmarshal([]byte(line), &l) == nil && l.Msg == "listening"
			b.mu.Lock()
			b.log = append(b.log, strings.TrimSuffix(line, "\n"))
			if heard {
				b.public, b.admin, b.since = l.Public, l.Admin, time.Now()
			}
			b.mu.Unlock()
			if heard {
				listening()
			}
		}
		if err != nil {
			return
		}
	}
}

func (b *brokerProcess) lastLog(n int) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.log[max(0, len(b.log)-n):], "\n")
}

// url is the public listener of the newest start, without a slash at the end.
func (b *brokerProcess) url() string { return "http://" + b.address() }

// upSince is when it last began to listen.
func (b *brokerProcess) upSince() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.since
}

func (b *brokerProcess) address() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.public
}

// kill ends the process as a power cut would end it, and returns when it is gone.
func (b *brokerProcess) kill() { b.signal(syscall.SIGKILL); b.waitExit(startLimit) }

func (b *brokerProcess) signal(sig os.Signal) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.cmd != nil {
		b.cmd.Process.Signal(sig) //nolint:errcheck // it may have ended by itself, which waitExit tells
	}
}

// waitExit waits for the end of the process and returns its exit code; -1 if a signal ended it or it did not end.
func (b *brokerProcess) waitExit(within time.Duration) int {
	b.mu.Lock()
	cmd, exited := b.cmd, b.exited
	b.mu.Unlock()
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-exited:
		return cmd.ProcessState.ExitCode()
	case <-timer.C:
		b.t.Errorf("the broker did not end within %s", within)
		return -1
	}
}

func (b *brokerProcess) running() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case <-b.exited:
		return false
	default:
		return true
	}
}

// finish kills what still runs and judges the log.
func (b *brokerProcess) finish() {
	b.kill()
	b.mu.Lock()
	text := strings.Join(b.log, "\n")
	b.mu.Unlock()
	if b.t.Failed() {
		b.t.Logf("the broker's log ends with:\n%s", b.lastLog(12))
	}
	for _, bad := range []string{"panic:", "fatal error:", "unexpected fault", "DATA RACE", "BUG:"} {
		if i := strings.Index(text, bad); i >= 0 {
			b.t.Errorf("the broker's log has %q:\n%s", bad, text[max(0, i-500):min(len(text), i+2500)])
		}
	}
	for what, secret := range b.conf.secrets() {
		if strings.Contains(text, secret) {
			b.t.Errorf("the broker's log holds %s", what)
		}
	}
}

// secrets are texts that no log may hold: the start of every grant, and what the keys derive.
func (c config) secrets() map[string]string {
	all := map[string]string{"a token": "eyJhbGciOi"}
	for _, s := range c.sites {
		for _, k := range s.keys {
			all["secret "+k.kid+" of "+s.name] = base64url(k.secret)
			all["the bearer "+k.kid+" of "+s.name] = base64url(k.sub("api"))
		}
	}
	return all
}
