package demo

import "syscall"

// dieWithParent makes the kernel end the broker if the demo is killed itself: no orphan keeps the store.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
