package persist

import (
	"os"

	"golang.org/x/sys/unix"
)

// freeBytes asks a file system how much of it an ordinary user may still take.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * st.Bsize, nil //nolint:gosec // no disk has 8 EiB
}

// allocate gives the first bytes of a file real blocks, leaving its size if keepSize. errors.ErrUnsupported if the file
// system cannot.
func allocate(f *os.File, bytes int64, keepSize bool) error {
	mode := uint32(0)
	if keepSize {
		mode = unix.FALLOC_FL_KEEP_SIZE
	}
	return unix.Fallocate(int(f.Fd()), mode, 0, bytes)
}
