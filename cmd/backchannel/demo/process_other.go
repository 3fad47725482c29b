//go:build !linux

package demo

import "syscall"

// apart puts the broker into a process group of its own, so that a Ctrl-C reaches the demo alone and the demo stops the
// broker. To end it with a demo that was killed itself has no portable form: here it would live on.
func apart() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
