package broker

import (
	"crypto/tls"
	"net"
	"time"
)

// tlsChunk is how much is encrypted at a time: one record. What the socket does not take of it waits as ciphertext.
const tlsChunk = 16 << 10

// TLSListener prepares the connections of l for Detach: pass the result to http.Server.ServeTLS in place of l.
func TLSListener(l net.Listener) net.Listener { return tlsListener{l} }

type tlsListener struct{ net.Listener }

func (l tlsListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if tcp, ok := c.(*net.TCPConn); ok && err == nil {
		return &wireConn{Conn: tcp}, nil
	}
	return c, err
}

// wireConn is the transport under a tls.Conn. Until it is detached it is the TCP connection; from then on tls.Conn
// writes to it what the shard has encrypted, and nobody reads.
type wireConn struct {
	net.Conn
	sock *socket // nil until detached
	// rest is ciphertext that the socket did not take. It is the shard's.
	rest []byte
}

// NetConn is the connection underneath.
func (w *wireConn) NetConn() net.Conn { return w.Conn }

// Write never waits once detached: what the socket does not take is kept, so that tls.Conn sees every record go.
func (w *wireConn) Write(p []byte) (int, error) {
	if w.sock == nil {
		return w.Conn.Write(p)
	}
	n := 0
	if len(w.rest) == 0 {
		var err error
		if n, err = w.sock.send(p); err != nil {
			return 0, err
		}
	}
	w.rest = append(w.rest, p[n:]...)
	return len(p), nil
}

// SetWriteDeadline is called by tls.Conn around its goodbye; a detached connection never waits.
func (w *wireConn) SetWriteDeadline(t time.Time) error {
	if w.sock == nil {
		return w.Conn.SetWriteDeadline(t)
	}
	return nil
}

// flush sends the ciphertext that waits; done says that none is left.
func (w *wireConn) flush() (done bool, err error) {
	for len(w.rest) > 0 {
		n, err := w.sock.send(w.rest)
		if err != nil {
			return false, err
		}
		if n == 0 {
			return false, nil
		}
		w.rest = w.rest[n:]
	}
	w.rest = nil
	return true, nil
}

// tlsWriter encrypts for a detached socket.
type tlsWriter struct {
	conn *tls.Conn
	wire *wireConn
}

// write takes wire a record at a time until the socket is full. A record counts as taken when it is encrypted.
func (t *tlsWriter) write(wire []byte) (n int, err error) {
	if done, err := t.wire.flush(); !done {
		return 0, err
	}
	for n < len(wire) && len(t.wire.rest) == 0 {
		m, err := t.conn.Write(wire[n:min(n+tlsChunk, len(wire))])
		if n += m; err != nil {
			return n, err
		}
	}
	return n, nil
}

// close says goodbye, which tells the end of the body from a cut, if the socket takes it.
func (t *tlsWriter) close() { _ = t.conn.CloseWrite() }
