//go:build !linux

package demo

import "syscall"

// dieWithParent has no portable form: there a broker outlives a demo that was killed.
func dieWithParent() *syscall.SysProcAttr { return nil }
