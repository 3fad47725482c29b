package proc

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pinned tells a process that it has been started again on the generator's core: "<server core>,<generator core>".
const pinned = "BACKCHANNEL_BENCH_CORES"

// Cores says where what runs. Both are -1 if there is only one processor: nothing is pinned then.
type Cores struct{ Server, Generator int }

// Pinned tells whether server and generator have a core each.
func (c Cores) Pinned() bool { return c.Server >= 0 }

// priority is the nice value that -priority asks for.
const priority = -15

// Pin starts this program again, in the same process, with the second of its processors alone, and keeps the first for
// servers. The runtime reads its processors at the start only, hence again. Urgent gives both precedence over all else
// on the machine, which only root can.
func Pin(urgent bool) (Cores, error) {
	if v := os.Getenv(pinned); v != "" {
		var c Cores
		if _, err := fmt.Sscanf(v, "%d,%d", &c.Server, &c.Generator); err != nil {
			return c, fmt.Errorf("%s=%q: %w", pinned, v, err)
		}
		return c, nil
	}
	var set unix.CPUSet
	if err := unix.SchedGetaffinity(0, &set); err != nil {
		return Cores{}, fmt.Errorf("read processors: %w", err)
	}
	var cpus []int
	for i := 0; i < len(set)*64 && len(cpus) < 2; i++ {
		if set.IsSet(i) {
			cpus = append(cpus, i)
		}
	}
	if len(cpus) < 2 {
		return Cores{Server: -1, Generator: -1}, nil
	}
	self, err := os.Executable()
	if err != nil {
		return Cores{}, err
	}
	runtime.LockOSThread()
	if err := affinity(cpus[1]); err != nil {
		return Cores{}, err
	}
	if urgent {
		if err := unix.Setpriority(unix.PRIO_PROCESS, 0, priority); err != nil {
			return Cores{}, fmt.Errorf("set priority %d: %w (only root can)", priority, err)
		}
	}
	env := append(os.Environ(), pinned+"="+strconv.Itoa(cpus[0])+","+strconv.Itoa(cpus[1]))
	return Cores{}, fmt.Errorf("start again: %w", syscall.Exec(self, os.Args, env)) // #nosec G204 G702 -- ourselves
}

func affinity(cpus ...int) error {
	var set unix.CPUSet
	for _, c := range cpus {
		set.Set(c)
	}
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin to processors %v: %w", cpus, err)
	}
	return nil
}

// Start starts cmd on the server's core, or on both for work that is not measured. A process is born with the affinity
// of the thread that starts it.
func (c Cores) Start(cmd *exec.Cmd, both bool) error {
	if !c.Pinned() {
		return cmd.Start()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	on := []int{c.Server}
	if both {
		on = append(on, c.Generator)
	}
	if err := affinity(on...); err != nil {
		return err
	}
	err := cmd.Start()
	if e := affinity(c.Generator); e != nil && err == nil {
		err = e
	}
	return err
}

// Self is the CPU time that this process has used.
func Self() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
