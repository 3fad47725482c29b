package blackbox_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// smallDisk mounts a disk of its own for the test; only root may.
func smallDisk(t *testing.T, mib int) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%dm", mib)); err != nil {
		t.Skipf("mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	return dir
}

// fill takes all the space that is left, but for some.
func fill(t *testing.T, dir, name string, leave uint64) (file string) {
	t.Helper()
	file = filepath.Join(dir, name)
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st syscall.Statfs_t
	for leave > 0 {
		if err := syscall.Statfs(dir, &st); err != nil {
			t.Fatal(err)
		}
		if st.Bavail*uint64(st.Bsize) < leave { //nolint:unconvert // it differs by architecture
			return file
		}
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	for size := 1 << 20; size >= 4096; size /= 2 {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, size))
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	return file
}

// TestAFullDiskRefusesPublishesAndHarmsNothing fills the disk under a running broker, kills it, starts it on the full
// disk, and gives the space back.
func TestAFullDiskRefusesPublishesAndHarmsNothing(t *testing.T) {
	t.Parallel()
	disk := smallDisk(t, 768)
	s := newSite("school")
	s.webhook = "http://127.0.0.1:9/nobody"
	b := &brokerProcess{t: t, dir: disk, conf: config{sites: []*site{s}}}
	b.writeConfig()
	b.start()
	t.Cleanup(b.finish)
	c := newClient(t, b, s)
	h := s.hash("a")
	origin := c.publish(t, h, 0)
	stream := c.open(t, map[string]any{"grants": []string{s.hears(h)}})
	stream.caughtUp()
	stored := 0
	publish := func() answer {
		a, err := c.as(timeout(t, 15*time.Second), http.MethodPost, "/v1/publish", publishBody(h, strings.Repeat("x", 100<<10)))
		if err != nil {
			t.Fatalf("the broker does not answer: %v", err)
		}
		if a.ok() {
			stored++
		}
		return a
	}
	check := func(when string) {
		t.Helper()
		var last answer
		refused := 0
		for i := 0; i < 3000 && refused < 20; i++ {
			if last = publish(); !last.ok() {
				refused++
				expectOneOf(t, last, "503 store_full | 503 unavailable")
			}
		}
		if refused == 0 {
			t.Errorf("%s: nothing was refused", when)
		}
		t.Logf("%s: %d stored in all, then %s", when, stored, last)
		back := c.open(t, map[string]any{"grants": []string{s.hears(h)}, "cursor": origin.String()})
		if !*back.hello().Channels[0].Recovered {
			t.Errorf("%s: not recovered", when)
		}
		if !poll(t.Context(), waitLimit, func() bool { return len(back.heard()) >= stored }) || len(back.heard()) > stored {
			t.Errorf("%s: %d events of the %d acknowledged; running: %t", when, len(back.heard()), stored, b.running())
		}
		back.close()
	}
	files := []string{fill(t, disk, "others", 115<<20)}
	check("filled by itself")
	if stored == 0 {
		t.Error("nothing was stored though there was room")
	}
	files = append(files, fill(t, disk, "more", 0))
	check("full")
	p := c.sender("mod_test")
	a, _ := p.post(t, p.message(newUUID(), "mod_test", "job", 1, 0))
	expectProblem(t, a, 503, "store_full")
	if strings.Contains(string(a.body), disk) {
		t.Errorf("a page is told where the broker keeps its data: %s", a)
	}
	b.kill()
	b.start()
	// A store cannot be opened where it cannot write: the broker says so, lives, and waits.
	for range 5 {
		expectOneOf(t, publish(), "503 store_full")
	}
	if !b.running() {
		t.Fatal("it ended on the full disk")
	}
	for _, file := range files {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 30*time.Second, "it takes events again", func() bool { return publish().ok() })
	if !b.running() {
		t.Error("it ended")
	}
	c.b.kill()
	c.b.start()
	back := c.open(t, map[string]any{"grants": []string{s.hears(h)}, "cursor": origin.String()})
	if events := back.awaitEvents(stored); len(events) != stored {
		t.Errorf("in the end: %d events of the %d acknowledged", len(events), stored)
	}
}
