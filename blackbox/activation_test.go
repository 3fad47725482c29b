package blackbox_test

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"
)

// TestAnUpgradeUnderSocketActivationRefusesNoConnection holds the listening socket as systemd does, ends the broker,
// publishes while there is none, and starts the next one.
func TestAnUpgradeUnderSocketActivationRefusesNoConnection(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("socket activation is systemd's")
	}
	s := newSite("school")
	ln := listen(t, 0)
	t.Cleanup(func() { ln.Close() })
	file, err := ln.(*net.TCPListener).File() //nolint:errcheck,forcetypeassert // it is TCP
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { file.Close() })
	b := &brokerProcess{t: t, dir: t.TempDir(), conf: config{listen: "systemd", sites: []*site{s}}, socket: file}
	b.writeConfig()
	b.start()
	t.Cleanup(b.finish)
	c := newClient(t, b, s)
	b.mu.Lock()
	b.public = ln.Addr().String() // what the broker says of a socket it was given may be anything
	b.mu.Unlock()
	h := s.hash("a")
	at := c.publish(t, h, 1)
	b.signal(syscall.SIGTERM)
	if code := b.waitExit(startLimit); code != 0 {
		t.Errorf("exit code %d", code)
	}
	var publishing sync.WaitGroup
	publishing.Go(func() {
		a, err := c.as(t.Context(), http.MethodPost, "/v1/publish", publishBody(h, 2))
		var p published
		if err != nil || json.Unmarshal(a.body, &p) != nil || p.ID == "" {
			t.Errorf("a publish while nobody was there: %v %v", a, err)
		}
	})
	pause(t.Context(), 200*time.Millisecond)
	b.start()
	publishing.Wait()
	b.mu.Lock()
	b.public = ln.Addr().String()
	b.mu.Unlock()
	events, _ := c.open(t, map[string]any{"grants": []string{s.hears(h)}, "cursor": at.String()}).caughtUp()
	if len(events) != 1 || string(events[0].Data) != "2" {
		t.Errorf("heard %v", datas(events))
	}
}

// activated wraps a command so that it finds file as its socket 3 and itself as the process that was meant.
func activated(cmd *exec.Cmd, file *os.File) {
	script := `LISTEN_PID=$$ LISTEN_FDS=1 exec "$0" "$@"`
	cmd.Args = append([]string{"sh", "-c", script, cmd.Path}, cmd.Args[1:]...)
	cmd.Path = "/bin/sh"
	cmd.ExtraFiles = []*os.File{file}
}
