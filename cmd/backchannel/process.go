package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"syscall"
)

func pid() int { return os.Getpid() }

const (
	// A machine or container smaller than this is not what a broker is run on; the limit would only burn processor.
	leastMemory = 128 << 20
	// wantedFiles is what is asked of the kernel; it is the usual ceiling of fs.nr_open.
	wantedFiles = 1 << 20
	// The broker is a guest beside an LMS: it takes no more than this unless it is told to. 20,000 streams over TLS
	// and a store at full load fit.
	mostMemory = 2 << 30
)

// applyMemoryLimit sets the soft limit of the Go runtime: the configured one, else a quarter of what there is. GOMEMLIMIT,
// if somebody set it, wins over both.
func applyMemoryLimit(ctx context.Context, logger *slog.Logger, configured Size) {
	if os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	limit := int64(configured)
	if limit == 0 {
		limit = min(max(availableMemory(os.ReadFile)/4, leastMemory), mostMemory)
	}
	if debug.SetMemoryLimit(limit) != limit {
		logger.LogAttrs(ctx, slog.LevelInfo, "memory limit", slog.String("limit", Size(limit>>20<<20).String()))
	}
}

// availableMemory is the machine's memory or its cgroup's limit, whichever is smaller; 0 if neither can be read.
func availableMemory(read func(string) ([]byte, error)) int64 {
	var most int64
	if text, err := read("/proc/meminfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) >= 2 && f[0] == "MemTotal:" {
				kib, _ := strconv.ParseInt(f[1], 10, 64)
				most = kib << 10
			}
		}
	}
	for _, file := range []string{"/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"} {
		text, err := read(file)
		if err != nil {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err == nil && n > 0 && (most == 0 || n < most) {
			most = n
		}
	}
	return most
}

// raiseFileLimit asks for as many open files as can be had, one a stream, and says so if they are fewer than the
// sites' limits of streams.
func raiseFileLimit(ctx context.Context, logger *slog.Logger, c *Config) {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil {
		logger.LogAttrs(ctx, slog.LevelWarn, "limit of open files unknown", slog.String("reason", err.Error()))
		return
	}
	if l.Cur < wantedFiles {
		raised := syscall.Rlimit{Cur: wantedFiles, Max: max(l.Max, wantedFiles)}
		if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised) != nil { // only root may raise Max
			raised = syscall.Rlimit{Cur: l.Max, Max: l.Max}
			_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &raised)
		}
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l)
	}
	most := 0
	for _, s := range c.sites {
		most = max(most, s.Limits.Streams)
	}
	if l.Cur < uint64(most) {
		logger.LogAttrs(ctx, slog.LevelWarn, "open files are limited below the sites' limit of streams; set LimitNOFILE= in the service unit, or ulimit -n",
			slog.Uint64("files", l.Cur), slog.Int("streams", most))
	}
}
