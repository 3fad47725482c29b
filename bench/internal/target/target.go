// Package target starts the servers that are measured and knows how to speak to each: what a subscriber sends, what a
// publisher sends. Every server is a process of its own on the server's core, with a fresh directory, on loopback, and
// is stopped by the one who started it.
package target

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"backchannel/bench/internal/proc"
)

// stopTime is how long a server may take to end before it is killed.
const stopTime = 10 * time.Second

// Host is what all targets need.
type Host struct {
	// Cores says where servers run.
	Cores proc.Cores
	// Dir is for binaries and stores; it should be on a real disk. Self is the path of this program.
	Dir, Self string
	// Checkout is the directory with the product's go.mod.
	Checkout string
	// Profiles is the directory for profiles of Backchannel, "" for none.
	Profiles string
}

// Features say what a target can be asked for.
type Features struct {
	// Durable: a publish is answered after it is on disk. Replay: a subscriber that names the last event it has seen
	// gets what came after. FirstFrame: a stream begins with a frame of the server's.
	Durable, Replay, FirstFrame bool
	// Batch: many events can be published by one request. Entries: a stream can carry several channels.
	Batch, Entries bool
	// Broadcasts without a store or a protocol: not a peer but what a peer is compared with.
	Floor bool
	// Joins: several events go out in one write by design; what only matters when saturated is measured there alone.
	Joins bool
}

// Kind is a server that can be started.
type Kind struct {
	Name, About string
	Features
	// Prepare builds or finds what is needed. Its error says what is missing; the target is then left out.
	Prepare func(ctx context.Context, h *Host) error
	// Start starts one. With history it keeps events for replay, where that is a choice.
	Start func(ctx context.Context, h *Host, history bool) (*Server, error)
}

// Server is a running server.
type Server struct {
	Features
	Name, Addr string
	// Subscribe makes the request of subscriber i, and Publish appends one that publishes data; PublishMany takes
	// channels and data of equal length.
	Subscribe   func(i int, channels []string, lastID string) []byte
	Publish     func(dst []byte, channel string, data []byte) []byte
	PublishMany func(dst []byte, channels []string, data [][]byte) []byte
	// Position reads from an answer to a publish the position that the event got; nil if none is told. ResumeID is the
	// same as a subscriber gives it to resume; nil if it takes the id that came with the event.
	Position func(body []byte) (int64, error)
	ResumeID func(body []byte) string
	// Profile fetches what Go's profiler has under a path, such as profile?seconds=3 or heap; nil if there is none.
	Profile func(ctx context.Context, path string) ([]byte, error)

	process *process
	dir     string
}

// PID is the server's process; others may hang below it.
func (s *Server) PID() int { return s.process.cmd.Process.Pid }

// Stop ends the server and removes its directory.
func (s *Server) Stop() error {
	err := s.process.stop()
	if s.dir != "" {
		err = errors.Join(err, os.RemoveAll(s.dir))
	}
	return err
}

// Kinds are all targets in the order of the tables.
func Kinds() []Kind {
	return []Kind{
		floorKind("floor", "one send() per event and subscriber", Features{Floor: true}),
		floorKind("floor-batch", "the events of one round joined in one send()", Features{Floor: true, Joins: true}, "-batch"),
		backchannelKind(),
		nchanKind(),
		libraryKind("centrifuge", "Go library, memory engine with history", Features{Replay: true}),
		libraryKind("r3labs", "Go library, no store; with replay the whole log in memory", Features{Replay: true}),
		libraryKind("go-sse", "Go library (tmaxmax), replay from a buffer in memory", Features{Replay: true}),
	}
}

// process is a child with its output.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	mu   sync.Mutex
	tail []string // guarded by mu: the last lines of both outputs
}

// launch starts a command and waits until found has seen the line that it looks for in either output.
func (h *Host) launch(ctx context.Context, cmd *exec.Cmd, found func(line string) bool) (*process, error) {
	p := &process{cmd: cmd, done: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd.Stdout, cmd.Stderr = w, w
	// A server must not outlive a generator that was killed.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = h.Cores.Start(cmd, false)
	_ = w.Close()
	if err != nil {
		_ = r.Close()
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	ready := make(chan struct{})
	go p.read(r, found, ready)
	select {
	case <-ready:
		return p, nil
	case <-p.done:
		err = errors.New("it ended")
	case <-time.After(20 * time.Second):
		err = errors.New("it was not ready in 20 s")
	case <-ctx.Done():
		err = ctx.Err()
	}
	_ = p.stop()
	return nil, fmt.Errorf("start %s: %w; it said:\n%s", filepath.Base(cmd.Path), err, p.said())
}

func (p *process) read(r io.ReadCloser, found func(string) bool, ready chan struct{}) {
	defer close(p.done)
	defer func() { _ = r.Close() }()
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if ready != nil && found(lines.Text()) {
			close(ready)
			ready = nil
		}
		p.mu.Lock()
		p.tail = append(p.tail, lines.Text())
		p.tail = p.tail[max(0, len(p.tail)-20):]
		p.mu.Unlock()
	}
}

func (p *process) said() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.tail, "\n")
}

func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.AfterFunc(stopTime, func() { _ = p.cmd.Process.Kill() })
	defer timer.Stop()
	<-p.done // both ends of its output are closed: it and its children have ended
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // a signal ended it, as it should
	}
	return err
}

// get is the request of a subscriber that any of the peers takes.
func get(path string, fields ...string) []byte {
	b := "GET " + path + " HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n"
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i+1] != "" {
			b += fields[i] + ": " + fields[i+1] + "\r\n"
		}
	}
	return []byte(b + "\r\n")
}

// post appends a request with a body of so many bytes, which the caller appends after it.
func post(dst []byte, path, fields string, size int) []byte {
	dst = append(dst, "POST "...)
	dst = append(dst, path...)
	dst = append(dst, " HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\n"...)
	dst = append(dst, fields...)
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(size), 10)
	return append(dst, "\r\n\r\n"...)
}
