package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller watches the sockets of one shard with an epoll instance of its own, edge-triggered: it hears when a socket
// that was full takes bytes again and when a peer has gone. Its goroutine waits in Go's poller, not in a thread.
type poller struct {
	file *os.File // the epoll descriptor
	fd   int

	// sockets and generations are the shard's. A slot's generation tells an event for a closed socket from one
	// for its successor.
	sockets     []*socket
	generations []int32
	free        []int32
}

func (p *poller) start() error {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return fmt.Errorf("create an epoll instance: %w", err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return fmt.Errorf("create an epoll instance: %w", err)
	}
	p.fd, p.file = fd, os.NewFile(uintptr(fd), "epoll")
	return nil
}

func (p *poller) stop() { _ = p.file.Close() }

// run hands batches of events to ready until stop is called.
func (p *poller) run(ctx context.Context, ready func([]unix.EpollEvent)) error {
	raw, err := p.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch sockets: %w", err)
	}
	events := make([]unix.EpollEvent, 256)
	for ctx.Err() == nil {
		var n int
		var waitErr error
		err := raw.Read(func(fd uintptr) bool {
			n, waitErr = unix.EpollWait(int(fd), events, 0)
			return n > 0 || waitErr != nil && !errors.Is(waitErr, syscall.EINTR)
		})
		switch {
		case errors.Is(err, os.ErrClosed):
			return nil
		case err != nil:
			return fmt.Errorf("watch sockets: %w", err)
		case waitErr != nil:
			return fmt.Errorf("watch sockets: %w", waitErr)
		}
		ready(append([]unix.EpollEvent(nil), events[:n]...))
	}
	return nil
}

func (p *poller) add(s *socket) error {
	if n := len(p.free); n > 0 {
		s.slot, p.free = p.free[n-1], p.free[:n-1]
		p.sockets[s.slot] = s
	} else {
		s.slot = int32(len(p.sockets)) //nolint:gosec // audited: descriptors are limited far below
		p.sockets = append(p.sockets, s)
		p.generations = append(p.generations, 0)
	}
	err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, s.fd, &unix.EpollEvent{
		Events: unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     s.slot, Pad: p.generations[s.slot],
	})
	if err != nil {
		return fmt.Errorf("watch a socket: %w", err)
	}
	return nil
}

// remove forgets s; closing its descriptor takes it out of the epoll instance.
func (p *poller) remove(s *socket) {
	if int(s.slot) >= len(p.sockets) || p.sockets[s.slot] != s {
		return
	}
	p.sockets[s.slot] = nil
	p.generations[s.slot]++
	p.free = append(p.free, s.slot)
}

// find gives the socket that an event is for, or nil if it has been closed since.
func (p *poller) find(e *unix.EpollEvent) *socket {
	if e.Fd < 0 || int(e.Fd) >= len(p.sockets) || p.generations[e.Fd] != e.Pad {
		return nil
	}
	return p.sockets[e.Fd]
}

// watch brings what the poller hears to the shard.
func (s *shard) watch(ctx context.Context) error {
	return s.poller.run(ctx, func(events []unix.EpollEvent) {
		s.do(func() {
			for i := range events {
				e := &events[i]
				sock := s.poller.find(e)
				switch {
				case sock == nil:
				case e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
					s.close(sock.st)
				case sock.flush() != nil:
					s.close(sock.st)
				default:
					s.resume(sock.st)
				}
			}
		})
	})
}
