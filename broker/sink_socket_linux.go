package broker

import (
	"crypto/tls"
	"fmt"
	"net"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// socketSendBuffer bounds what the kernel keeps for a reader that is stuck: its own choice would be 4 MB each.
	socketSendBuffer = 64 << 10
	// socketTimeout is how long sent data may stay unacknowledged before the kernel gives a half-open peer up.
	socketTimeout = 60 * time.Second
)

// socket is a connection taken from net/http: a descriptor that only its shard writes to.
type socket struct {
	fd   int
	slot int32 // in the shard's table of sockets
	st   *stream
	tls  *tlsWriter // nil for a plain connection
}

// transportOf finds the TCP connection under conn, and what encrypts on it; nil if conn cannot be detached.
func transportOf(conn net.Conn) (*net.TCPConn, *tlsWriter) {
	switch c := conn.(type) {
	case *net.TCPConn:
		return c, nil
	case *tls.Conn:
		if wire, ok := c.NetConn().(*wireConn); ok && wire.sock == nil {
			tcp, _ := wire.Conn.(*net.TCPConn)
			return tcp, &tlsWriter{conn: c, wire: wire}
		}
	}
	return nil, nil
}

// CanDetach tells whether Detach takes conn: a TCP connection, or TLS over one from a TLSListener.
func CanDetach(conn net.Conn) bool {
	tcp, _ := transportOf(conn)
	return tcp != nil
}

// Detach takes conn away from net/http and from Go's poller: its descriptor is duplicated and conn closed, so that an
// idle stream costs neither goroutine nor buffers. ok is false where CanDetach is; conn is untouched then. With TLS
// nothing is read any more: a peer that goes is noticed by its FIN, and no browser sends anything else on a stream.
func Detach(conn net.Conn) (s Sink, ok bool, err error) {
	tcp, enc := transportOf(conn)
	if tcp == nil {
		return nil, false, nil
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return nil, false, fmt.Errorf("detach a connection: %w", err)
	}
	fd := -1
	var dupErr error
	if err := raw.Control(func(orig uintptr) {
		fd, dupErr = unix.FcntlInt(orig, unix.F_DUPFD_CLOEXEC, 0)
	}); err != nil {
		return nil, false, fmt.Errorf("detach a connection: %w", err)
	}
	if dupErr != nil {
		return nil, false, fmt.Errorf("detach a connection: duplicate the descriptor: %w", dupErr)
	}
	// Closing the original takes the socket out of Go's poller; the duplicate keeps the connection open.
	_ = tcp.Close()
	// Both options only bound what a stuck or vanished peer costs; a stream works without them.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, socketSendBuffer)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(socketTimeout/time.Millisecond))
	sock := &socket{fd: fd, tls: enc}
	if enc != nil {
		enc.wire.sock = sock
	}
	return sock, true, nil
}

func (s *socket) open(st *stream) error {
	s.st = st
	return st.shard.poller.add(s)
}

func (s *socket) write(_ []*Frame, wire []byte) (int, error) {
	if s.tls != nil {
		return s.tls.write(wire)
	}
	return s.send(wire)
}

// flush sends what was encrypted and did not fit; an error ends the stream.
func (s *socket) flush() error {
	if s.tls == nil {
		return nil
	}
	_, err := s.tls.wire.flush()
	return err
}

// send sends without waiting. A raw system call keeps the P: the call takes microseconds and must not cost a
// hand-over; MSG_NOSIGNAL keeps a departed peer from raising SIGPIPE.
func (s *socket) send(wire []byte) (int, error) {
	for {
		n, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO, uintptr(s.fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(wire))), uintptr(len(wire)), //nolint:gosec // audited: the kernel only reads the slice, within the call
			unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
}

func (s *socket) settled(bool) bool { return false }

func (s *socket) close(uint64) {
	if s.st != nil {
		s.st.shard.poller.remove(s)
	}
	if s.tls != nil {
		s.tls.close()
	}
	_ = unix.Close(s.fd)
	s.fd = -1
}

func (s *socket) transport() string { return "stream" }

func (s *socket) beats() bool { return true }
