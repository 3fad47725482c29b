package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"backchannel/bench/internal/report"
	"backchannel/bench/internal/scenario"
	"backchannel/bench/internal/target"
)

func conditions(o *options, b *scenario.Bench, kinds []target.Kind) report.Conditions {
	c := report.Conditions{
		Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Commit: commit(o.checkout), System: system(), CPU: cpuModel(),
		Cores: "server and generator share what there is", Disk: disk(o.dir), Go: runtime.Version(),
		Load: strconv.FormatFloat(loadAverage(), 'f', 2, 64), Runs: o.runs, Quick: o.quick, Sizes: b.Sizes,
	}
	if cores := b.Host.Cores; cores.Pinned() {
		c.Cores = fmt.Sprintf("the server on core %d, the generator on core %d", cores.Server, cores.Generator)
	}
	if o.urgent {
		c.Cores += "; both at nice -15"
	}
	for _, k := range kinds {
		c.Servers = append(c.Servers, k.Name)
	}
	return c
}

// commit names what is measured; a + says that files differ from it.
func commit(dir string) string {
	cmd := exec.Command("git", "-C", dir, "describe", "--always", "--dirty=+", "--exclude", "*") // #nosec G204 G702 -- asks about the checkout
	out, err := cmd.Output()
	if err != nil {
		return "no commit"
	}
	return "commit " + string(bytes.TrimSpace(out))
}

func system() string {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return runtime.GOOS
	}
	return unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	model, n := runtime.GOARCH, 0
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			n++
		}
	}
	return strconv.Itoa(n) + " cores of " + model
}

// disk is the kind of file system that stores are on.
func disk(dir string) string {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return "unknown"
	}
	names := map[int64]string{unix.EXT4_SUPER_MAGIC: "ext4", unix.XFS_SUPER_MAGIC: "xfs", unix.BTRFS_SUPER_MAGIC: "btrfs", unix.TMPFS_MAGIC: "tmpfs: nothing here is on a disk", unix.OVERLAYFS_SUPER_MAGIC: "overlayfs"}
	if n, ok := names[st.Type]; ok {
		return n
	}
	return fmt.Sprintf("file system %#x", st.Type)
}

// loadAverage is the machine's over the last minute; 0 if it cannot be read.
func loadAverage() float64 {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	first, _, _ := strings.Cut(string(text), " ")
	v, _ := strconv.ParseFloat(first, 64)
	return v
}
