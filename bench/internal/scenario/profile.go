package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
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
		b, err := s.server.Profile(context.Background(), seconds)
		if err == nil {
			err = os.WriteFile(filepath.Join(h.Profiles, "profile-"+s.scenario+".pprof"), b, 0o600)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "no profile:", err)
		}
	}()
}
