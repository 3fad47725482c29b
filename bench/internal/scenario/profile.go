package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"backchannel/bench/internal/proc"
)

// startProfile has the server profile itself while it is measured, if that was asked for: the figures of such a run are
// a little worse than others. The file is profile-<scenario>.pprof beside the results.
func (s *session) startProfile() {
	h := s.bench.Host
	if s.server.Profile == nil || h.Profiles == "" || s.profile != nil {
		return
	}
	s.profile = make(chan struct{})
	seconds := max(1, int(s.Measure.Seconds()))
	go func() {
		defer close(s.profile)
		s.saveProfile(context.Background(), fmt.Sprintf("profile?seconds=%d", seconds))
	}()
}

func (s *session) saveProfile(ctx context.Context, path string) {
	b, err := s.server.Profile(ctx, path)
	if err == nil {
		err = os.WriteFile(filepath.Join(s.bench.Host.Profiles, "profile-"+s.scenario+".pprof"), b, 0o600)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no profile:", err)
	}
}

// liveHeap is what a Go server has in use after a collection, by its own account; 0 if it gives none.
func (s *session) liveHeap(ctx context.Context) (float64, error) {
	if s.server.Profile == nil {
		return 0, nil
	}
	text, err := s.server.Profile(ctx, "heap?gc=1&debug=1")
	if err != nil {
		return 0, err
	}
	_, rest, _ := bytes.Cut(text, []byte("\n# HeapAlloc = "))
	figure, _, ok := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return 0, errors.New("the server's heap profile has no HeapAlloc")
	}
	return strconv.ParseFloat(string(figure), 64)
}

// heapProfile saves what is in use after a collection, and records what the process holds then: the difference to the
// figure before it is garbage that was not collected yet.
func (s *session) heapProfile(ctx context.Context) error {
	if s.server.Profile == nil || s.bench.Host.Profiles == "" {
		return nil
	}
	s.saveProfile(ctx, "heap?gc=1")
	m, err := proc.MemoryOf(s.server.PID())
	s.values["rss_collected_mb"] = float64(m.RSS) / megabyte
	return err
}
