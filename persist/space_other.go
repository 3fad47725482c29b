//go:build !linux

package persist

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// freeBytes asks a file system how much of it an ordinary user may still take.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:gosec // no disk has 8 EiB
}

// allocate is for Linux; elsewhere the floor of free space has to do.
func allocate(*os.File, int64, bool) error { return errors.ErrUnsupported }
