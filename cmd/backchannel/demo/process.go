package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// restartPause lets a viewer see that the broker is gone. A service manager restarts as fast.
	restartPause = 800 * time.Millisecond
	// stopPatience is how long a broker may take to drain when the demo ends.
	stopPatience = 10 * time.Second
)

// brokerProcess keeps one broker running as a child: it is started again whenever it dies.
type brokerProcess struct {
	program, config string
	log             *slog.Logger
	errOut          io.Writer
	ready           chan struct{} // closed when the first start listens

	mu      sync.Mutex
	address string    // guarded by mu; host:port of the public listener, "" while it is down
	pid     int       // guarded by mu; 0 while it is down
	since   time.Time // guarded by mu; when it began to listen, or when it died
	starts  int       // guarded by mu
	kills   int       // guarded by mu
}

func newBrokerProcess(program, config string, log *slog.Logger, errOut io.Writer) *brokerProcess {
	return &brokerProcess{program: program, config: config, log: log, errOut: errOut, ready: make(chan struct{}), since: time.Now()}
}

// Address is where the broker listens now, "" while it does not.
func (b *brokerProcess) Address() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.address
}

// Await returns when the broker listens for the first time, or with ctx's error.
func (b *brokerProcess) Await(ctx context.Context) error {
	select {
	case <-b.ready:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Kill ends the broker with SIGKILL: no drain, no goodbye, no last sync.
func (b *brokerProcess) Kill() error {
	b.mu.Lock()
	pid := b.pid
	if pid != 0 {
		b.kills++
		b.address, b.since = "", time.Now() // nobody need find out by trying
	}
	b.mu.Unlock()
	if pid == 0 {
		return nil // it is down already
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// Run starts the broker, and again whenever it dies, until ctx ends. A broker that dies before it ever listened ends
// Run with an error: to start it again would not help.
func (b *brokerProcess) Run(ctx context.Context) error {
	for {
		err := b.once(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		select {
		case <-b.ready:
		default:
			return fmt.Errorf("start the broker (%s serve --config %s): %w", b.program, b.config, err)
		}
		select {
		case <-time.After(restartPause):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// once runs the broker to its end. The thread is locked because the child is bound to die with the thread that
// started it (see apart), and Go may end idle threads.
func (b *brokerProcess) once(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, b.program, "serve", "--config", b.config, "--log", "json") // #nosec G204 -- our own binary
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopPatience
	cmd.SysProcAttr = apart()
	cmd.Env = os.Environ()
	reader, writer := io.Pipe()
	cmd.Stderr = writer
	if err := cmd.Start(); err != nil {
		return err
	}
	b.mu.Lock()
	b.pid, b.starts = cmd.Process.Pid, b.starts+1
	b.mu.Unlock()
	read := make(chan struct{})
	go func() {
		defer close(read)
		b.listen(reader)
	}()
	err := cmd.Wait()
	_ = writer.Close()
	<-read
	b.mu.Lock()
	b.pid, b.address, b.since = 0, "", time.Now()
	b.mu.Unlock()
	return err
}

// listen reads the broker's log: the line that says where it listens, and what an onlooker should know.
func (b *brokerProcess) listen(r io.Reader) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var line struct {
			Level  slog.Level
			Msg    string
			Public string
			Error  string
		}
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			_, _ = fmt.Fprintln(b.errOut, lines.Text()) // not a log line: the command's own error
			continue
		}
		if line.Msg == "listening" {
			b.listening(line.Public)
		}
		if line.Level >= slog.LevelWarn {
			b.log.LogAttrs(context.Background(), line.Level, "broker", slog.String("says", line.Msg), slog.String("error", line.Error))
		}
	}
	_, _ = io.Copy(io.Discard, r) // a line too long must not block the broker
}

func (b *brokerProcess) listening(address string) {
	b.mu.Lock()
	b.address, b.since = address, time.Now()
	first := b.starts == 1
	b.mu.Unlock()
	if first {
		close(b.ready)
	}
}

// brokerStatus is what the page shows of the process.
type brokerStatus struct {
	Up     bool  `json:"up"`
	PID    int   `json:"pid"`
	Starts int   `json:"starts"`
	Kills  int   `json:"kills"`
	Since  int64 `json:"since"` // ms: how long it has been up, or down
}

func (b *brokerProcess) status(now time.Time) brokerStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	return brokerStatus{Up: b.address != "", PID: b.pid, Starts: b.starts, Kills: b.kills, Since: now.Sub(b.since).Milliseconds()}
}
