package persist

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// lockDir takes the directory for this process until unlockDir or its end, before any file in it is touched.
func lockDir(dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600) //nolint:gosec // the configured directory
	if err != nil {
		return nil, fmt.Errorf("%w; make the directory writable for this user", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		pid := make([]byte, 20)
		n, _ := f.ReadAt(pid, 0) // what is not there is not told
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("directory is locked by pid %s (is another instance running?)", strings.TrimSpace(string(pid[:n])))
		}
		return nil, fmt.Errorf("lock the directory: %w; use a file system that has locks", err)
	}
	// The pid is for the reader of the error above; a full disk must not keep us from starting.
	if err := f.Truncate(0); err == nil {
		_, _ = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	return f, nil
}

func unlockDir(f *os.File) error { return f.Close() }
