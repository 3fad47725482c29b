package demo

import "syscall"

// apart puts the broker into a process group of its own, so that a Ctrl-C reaches the demo alone and the demo stops the
// broker, and makes the kernel end it if the demo is killed itself: no orphan keeps the store.
func apart() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
