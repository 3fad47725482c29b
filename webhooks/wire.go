package webhooks

import (
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync"
)

// The outcome of a call hangs on one question: can a byte of its request have left? net/http does not tell (its error
// for it is private, and a write may still be under way when RoundTrip returns), so the connection itself counts, and
// an attempt that ends without an answer shuts its connection before it looks.

// wireConn is a connection that knows whether anything was ever handed to the kernel since a mark.
type wireConn struct {
	net.Conn

	mu     sync.Mutex
	writes uint64 // guarded by mu; counted before the write, so that it can only be too high
	shut   bool   // guarded by mu
}

// Write implements net.Conn.
func (c *wireConn) Write(b []byte) (int, error) {
	c.mu.Lock()
	if c.shut {
		c.mu.Unlock()
		return 0, net.ErrClosed
	}
	c.writes++
	c.mu.Unlock()
	return c.Conn.Write(b)
}

func (c *wireConn) mark() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.writes
}

// shutUnwritten closes c if nothing was written since mark. If it tells true, nothing ever will be.
func (c *wireConn) shutUnwritten(mark uint64) bool {
	c.mu.Lock()
	if c.writes != mark {
		c.mu.Unlock()
		return false
	}
	c.shut = true
	c.mu.Unlock()
	_ = c.Close() // the attempt is given up; what Close finds changes nothing
	return true
}

// wire follows one attempt. Its methods may be called from several goroutines.
type wire struct {
	mu      sync.Mutex
	conn    *wireConn // guarded by mu; nil until the request has a connection
	unknown bool      // guarded by mu; a connection of another kind: nothing can be proven
	mark    uint64    // guarded by mu
	stopped bool      // guarded by mu; a connection that comes now is shut
}

func (w *wire) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{GotConn: w.gotConn}
}

func (w *wire) gotConn(info httptrace.GotConnInfo) {
	conn := info.Conn
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	counted, ok := conn.(*wireConn)
	var mark uint64
	if ok {
		mark = counted.mark() // only this attempt writes to it now
	}
	w.mu.Lock()
	w.conn, w.unknown, w.mark = counted, !ok, mark
	stopped := w.stopped
	w.mu.Unlock()
	if stopped && ok {
		counted.shutUnwritten(mark)
	}
}

// stop reports that no byte of the request has left and sees to it that none will. If it tells false, the request may
// have been read, and nothing was changed.
func (w *wire) stop() bool {
	w.mu.Lock()
	conn, mark, unknown := w.conn, w.mark, w.unknown
	if conn == nil && !unknown {
		w.stopped = true
	}
	w.mu.Unlock()
	if unknown {
		return false
	}
	return conn == nil || conn.shutUnwritten(mark)
}
