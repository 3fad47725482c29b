// Package proc reads from outside what a process and its children use: /proc/PID/stat and /proc/PID/smaps_rollup.
package proc

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// tick is the unit of times in /proc: USER_HZ, 100 on all of Linux.
const tick = 10 * time.Millisecond

// Tree is a process and all its descendants, itself first.
func Tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pids[i]))
		for _, task := range tasks {
			text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pids[i], task.Name())) // #nosec G304 -- /proc
			for _, f := range strings.Fields(string(text)) {
				if n, err := strconv.Atoi(f); err == nil {
					pids = append(pids, n)
				}
			}
		}
	}
	return pids
}

// CPU is the time that the processes of the tree have used. It is counted in steps of 10 ms.
func CPU(pid int) (time.Duration, error) {
	var sum time.Duration
	for _, p := range Tree(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p)) // #nosec G304 -- /proc
		if errors.Is(err, fs.ErrNotExist) && p != pid {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("read CPU time of the server (has it ended?): %w", err)
		}
		// The name may hold anything, parentheses too: fields count from the last one.
		f := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
		if len(f) < 13 {
			return 0, fmt.Errorf("/proc/%d/stat has %d fields; want at least 13", p, len(f))
		}
		user, err1 := strconv.ParseInt(string(f[11]), 10, 64)
		system, err2 := strconv.ParseInt(string(f[12]), 10, 64)
		if err := errors.Join(err1, err2); err != nil {
			return 0, fmt.Errorf("/proc/%d/stat: %w", p, err)
		}
		sum += time.Duration(user+system) * tick
	}
	return sum, nil
}

// Memory is what a tree of processes holds, in bytes: resident, and the share of it that is its own (PSS: pages that
// several processes map are divided among them).
type Memory struct {
	RSS int64 `json:"rss"`
	PSS int64 `json:"pss"`
}

// MemoryOf sums over the tree.
func MemoryOf(pid int) (Memory, error) {
	var m Memory
	for _, p := range Tree(pid) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", p)) // #nosec G304 -- /proc
		if errors.Is(err, fs.ErrNotExist) && p != pid {
			continue
		}
		if err != nil {
			return Memory{}, fmt.Errorf("read memory of the server (has it ended?): %w", err)
		}
		for line := range strings.Lines(string(text)) {
			f := strings.Fields(line)
			if len(f) < 2 {
				continue
			}
			n, _ := strconv.ParseInt(f[1], 10, 64)
			switch f[0] {
			case "Rss:":
				m.RSS += n << 10
			case "Pss:":
				m.PSS += n << 10
			}
		}
	}
	return m, nil
}

// Files is how many descriptors the tree has open.
func Files(pid int) (n int) {
	for _, p := range Tree(pid) {
		entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p))
		n += len(entries)
	}
	return n
}

// Core is the time that a processor has been busy since boot, with all processes; 0 if it cannot be read.
func Core(cpu int) time.Duration {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	name := fmt.Sprintf("cpu%d ", cpu)
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, name) {
			continue
		}
		var busy int64
		for i, f := range strings.Fields(line)[1:] {
			n, _ := strconv.ParseInt(f, 10, 64)
			if i != 3 && i != 4 && i < 8 { // neither idle nor waiting; guests are in user already
				busy += n
			}
		}
		return time.Duration(busy) * tick
	}
	return 0
}
