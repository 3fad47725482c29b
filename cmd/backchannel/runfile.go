package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
)

// runFileName is in Data. It is locked for as long as a broker runs there, so a stale one does no harm.
const runFileName = "backchannel.run"

// runInfo is what a running broker tells the commands beside it.
type runInfo struct {
	PID    int    `json:"pid"`
	Public string `json:"public,omitempty"`
	Admin  string `json:"admin,omitempty"`

	alive bool
}

// runFile is the lock on a data directory, and where the process that holds it can be read.
type runFile struct{ f *os.File }

// lockData makes the directory if needed and takes its lock. The error names the process that holds it.
func lockData(dir string) (*runFile, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	path := filepath.Join(dir, runFileName)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600) // #nosec G304 -- in the configured directory
	if err != nil {
		return nil, fmt.Errorf("lock data directory %q: %w", dir, err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		r := readRunInfo(f)
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("data directory %q is locked by pid %d: another broker runs there; stop it or give this one its own `data`", dir, r.PID)
		}
		return nil, fmt.Errorf("lock data directory %q: %w", dir, err)
	}
	r := &runFile{f: f}
	return r, r.write(runInfo{PID: os.Getpid()})
}

// write replaces what the file says.
func (r *runFile) write(info runInfo) error {
	text, err := json.Marshal(info)
	if err == nil {
		err = r.f.Truncate(0)
	}
	if err == nil {
		_, err = r.f.WriteAt(append(text, '\n'), 0)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", r.f.Name(), err)
	}
	return nil
}

// Close gives the lock up. The file stays: removing it would let two processes lock two files of one name.
func (r *runFile) Close() error {
	_ = r.f.Truncate(0)
	return r.f.Close()
}

// readRunFile reads what the broker of a data directory says; alive is whether it runs now.
func readRunFile(dir string) (runInfo, error) {
	f, err := os.Open(filepath.Join(dir, runFileName)) // #nosec G304 -- in the configured directory
	if err != nil {
		return runInfo{}, fmt.Errorf("find a running broker: %w", err)
	}
	defer func() { _ = f.Close() }()
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB)
	r := readRunInfo(f)
	r.alive = errors.Is(err, syscall.EWOULDBLOCK) && r.PID > 0
	return r, nil
}

func readRunInfo(f *os.File) runInfo {
	var r runInfo
	text, _ := io.ReadAll(io.NewSectionReader(f, 0, 4096))
	_ = json.Unmarshal(text, &r)
	return r
}

// reloadRunning sends SIGHUP to the broker that runs on dir; running is false if there is none.
func reloadRunning(dir string) (pid int, running bool, err error) {
	r, err := readRunFile(dir)
	if err != nil || !r.alive {
		return 0, false, nil //nolint:nilerr // no file, no broker
	}
	if err := syscall.Kill(r.PID, syscall.SIGHUP); err != nil {
		return r.PID, true, fmt.Errorf("tell the running broker (pid %d) to reload: %w", r.PID, err)
	}
	return r.PID, true, nil
}
