//go:build !linux

package broker

import (
	"context"
	"net"
)

// poller has nothing to watch where sockets cannot be detached.
type poller struct{}

func (poller) start() error { return nil }
func (poller) stop()        {}

func (s *shard) watch(context.Context) error { return nil }

// CanDetach tells that no connection can be detached on this system.
func CanDetach(net.Conn) bool { return false }

// TLSListener is l: there is nothing to prepare on this system.
func TLSListener(l net.Listener) net.Listener { return l }

// Detach takes no connection on this system: streams are written by goroutines (Buffered).
func Detach(net.Conn) (s Sink, ok bool, err error) { return nil, false, nil }
