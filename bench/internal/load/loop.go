package load

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// readBytes is the buffer into which all sockets are read: what a subscriber that is far behind gets at once.
const readBytes = 512 << 10

// ready is what a Loop calls when a socket can be read, or written for the first time.
type ready interface {
	ready(events uint32)
}

// Loop waits for sockets and reads them into one shared buffer.
type Loop struct {
	// Now is the time of the last read, in ns since Start.
	Now   int64
	Start time.Time

	epoll  int
	addr   unix.SockaddrInet4
	source uint32
	events []unix.EpollEvent
	slots  []ready
	free   []int32
	freed  []int32 // in this round: not to be given out before its events are all handled
	buf    []byte
	err    error
}

// NewLoop makes a loop for connections to addr, an IPv4 address of this machine with its port.
func NewLoop(addr string) (*Loop, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("address %q: %w", addr, err)
	}
	ip := net.ParseIP(host).To4()
	n, err := strconv.ParseUint(port, 10, 16)
	if ip == nil || err != nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("address %q: want 127.x.x.x:port; load is only ever sent to this machine", addr)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("make epoll descriptor: %w", err)
	}
	l := &Loop{epoll: epoll, events: make([]unix.EpollEvent, 512), buf: make([]byte, readBytes), Start: time.Now()}
	l.addr.Port = int(n)
	copy(l.addr.Addr[:], ip)
	return l, nil
}

// Close closes what is left. Connections must not be used after it.
func (l *Loop) Close() {
	for _, r := range l.slots {
		if c, ok := r.(interface{ Close() }); ok && c != nil {
			c.Close()
		}
	}
	_ = unix.Close(l.epoll)
}

// Err is the first failure of any connection, such as a refused publish or a stream that ended.
func (l *Loop) Err() error { return l.err }

func (l *Loop) fail(err error) {
	if l.err == nil {
		l.err = err
	}
}

// Clock is the time now, in ns since Start.
func (l *Loop) Clock() int64 { return int64(time.Since(l.Start)) }

// Poll handles what is ready and waits for it at most timeout; below a millisecond it does not wait. It returns Err.
func (l *Loop) Poll(timeout time.Duration) error {
	// A raw call first: it does not tell the scheduler, whose watchdog would take turns with us on the one core.
	r, _, code := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epoll), uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0) // #nosec G103 -- as said
	n, err := int(r), error(nil)                                                                                                                   // #nosec G115 -- at most len(l.events)
	if code != 0 {
		n, err = 0, code
	}
	if ms := int(timeout / time.Millisecond); n == 0 && err == nil && ms > 0 {
		n, err = unix.EpollWait(l.epoll, l.events, ms)
	}
	if err != nil && !errors.Is(err, unix.EINTR) {
		return fmt.Errorf("wait for sockets: %w", err)
	}
	l.Now = l.Clock()
	for i := range max(n, 0) {
		if r := l.slots[l.events[i].Fd]; r != nil {
			r.ready(l.events[i].Events)
		}
	}
	l.free = append(l.free, l.freed...)
	l.freed = l.freed[:0]
	return l.err
}

// conn is a socket of a loop.
type conn struct {
	loop *Loop
	fd   int
	slot int32
}

// dial starts a connection, registers it for r and reports whether it is established already. Source addresses rotate
// through 127.0.0.0/8, since one address has only some 28,000 ports and a closed connection holds its port for a minute.
func (l *Loop) dial(r ready) (c conn, connected bool, err error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return conn{}, false, fmt.Errorf("make socket: %w (raise the limit of open files: ulimit -n)", err)
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	l.source++
	from := unix.SockaddrInet4{Addr: [4]byte{127, 1, byte(l.source >> 8 & 0xff), byte(l.source&0xff) | 1}}
	if err := unix.Bind(fd, &from); err != nil {
		_ = unix.Close(fd)
		return conn{}, false, fmt.Errorf("bind to %v: %w", from.Addr, err)
	}
	err = unix.Connect(fd, &l.addr)
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		_ = unix.Close(fd)
		return conn{}, false, fmt.Errorf("connect to port %d: %w", l.addr.Port, err)
	}
	c = conn{loop: l, fd: fd, slot: l.slotFor(r)}
	want := uint32(unix.EPOLLIN | unix.EPOLLRDHUP)
	if err != nil {
		want = unix.EPOLLOUT
	}
	if e := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: want, Fd: c.slot}); e != nil {
		c.close()
		return conn{}, false, fmt.Errorf("register socket: %w", e)
	}
	return c, err == nil, nil
}

func (l *Loop) slotFor(r ready) int32 {
	if n := len(l.free); n > 0 {
		slot := l.free[n-1]
		l.free = l.free[:n-1]
		l.slots[slot] = r
		return slot
	}
	l.slots = append(l.slots, r)
	return int32(len(l.slots) - 1) // #nosec G115 -- bounded by the limit of descriptors
}

// listen turns a connection that was waiting to be established to reading.
func (c *conn) listen() error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP, Fd: c.slot}
	return unix.EpollCtl(c.loop.epoll, unix.EPOLL_CTL_MOD, c.fd, &ev)
}

func (c *conn) close() {
	if c.fd == 0 {
		return
	}
	_ = unix.Close(c.fd)
	c.fd = 0
	c.loop.slots[c.slot] = nil
	c.loop.freed = append(c.loop.freed, c.slot)
}

// write sends all of b; a request always fits into an empty socket buffer, so that less is an error.
func (c *conn) write(b []byte) error {
	n, _, code := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT, 0, 0) // #nosec G103 -- does not block, see Poll
	switch {
	case code != 0:
		return code
	case n < uintptr(len(b)):
		return errors.New("the socket took a part of the request only")
	}
	return nil
}

// read fills the shared buffer from offset; n is 0 at the end of the stream and negative if there is nothing.
func (c *conn) read(offset int) (n int, err error) {
	b := c.loop.buf[offset:]
	r, _, code := unix.RawSyscall6(unix.SYS_RECVFROM, uintptr(c.fd), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0) // #nosec G103 -- does not block, see Poll
	switch code {
	case 0:
		return int(r), nil // #nosec G115 -- at most len(b)
	case unix.EAGAIN, unix.EINTR:
		return -1, nil
	}
	return 0, code
}
