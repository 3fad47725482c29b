package load

import (
	"bytes"
	"fmt"
)

// state of a connection to the server.
type state uint8

const (
	connecting state = iota
	waiting          // for the answer's header
	open
	closed
)

// Stream is one subscriber.
type Stream struct {
	// Channel is what it hears; nil for a stream whose events nobody counts.
	Channel *Channel
	// OnOpen is called once: when the header has come, or with NeedFrame the first whole frame.
	OnOpen func(*Stream)
	// OnData is called for each data line if there is no Channel.
	OnData func(s *Stream, line []byte)
	// NeedFrame makes the first frame, not the header, what opens a stream.
	NeedFrame bool
	// KeepID makes LastID hold the newest id.
	KeepID bool
	LastID string
	// Goal is how many events of its channel, from the first on, make the stream count as caught up.
	Goal int

	conn
	state   state
	opened  bool
	chunked bool
	left    int // bytes of the chunk that have not come yet, its line end included
	pos     int // events heard
	missed  map[uint32]bool
	request []byte
	rest    []byte // an incomplete line
	raw     []byte // an incomplete chunk header
}

// Open connects s and sends request as soon as it can.
func (l *Loop) Open(s *Stream, request []byte) error {
	s.request, s.state, s.opened = request, connecting, false
	s.chunked, s.left, s.rest, s.raw = false, 0, nil, nil
	c, connected, err := l.dial(s)
	s.conn = c
	if err == nil && connected {
		err = s.send()
	}
	return err
}

// Close ends the stream from this side.
func (s *Stream) Close() {
	s.state = closed
	s.close()
}

// IsOpen tells whether the stream has been opened and has not ended.
func (s *Stream) IsOpen() bool { return s.opened && s.state == open }

func (s *Stream) send() error {
	err := s.write(s.request)
	s.request, s.state = nil, waiting
	return err
}

func (s *Stream) ready(uint32) {
	if err := s.advance(); err != nil {
		s.loop.fail(fmt.Errorf("subscriber: %w", err))
		s.Close()
	}
}

func (s *Stream) advance() error {
	if s.state == connecting {
		if err := s.send(); err != nil {
			return err
		}
		return s.listen()
	}
	kept := copy(s.loop.buf, s.raw)
	s.raw = s.raw[:0]
	n, err := s.read(kept)
	switch {
	case err != nil:
		return err
	case n < 0:
		s.raw = append(s.raw, s.loop.buf[:kept]...)
		return nil
	case n == 0:
		return fmt.Errorf("the server ended the stream after %d events", s.pos)
	}
	s.loop.Now = s.loop.Clock()
	return s.feed(s.loop.buf[:kept+n])
}

// feed takes the next bytes of the answer, after those that it left in raw; b is overwritten.
func (s *Stream) feed(b []byte) (err error) {
	if s.state == waiting {
		if b, err = s.header(b); err != nil || b == nil {
			return err
		}
	}
	if s.chunked {
		b = s.unchunk(b)
	}
	s.lines(b)
	return nil
}

// header reads the answer's head and returns what follows it, nil if it is not whole yet.
func (s *Stream) header(b []byte) ([]byte, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		s.raw = append(s.raw, b...)
		return nil, nil
	}
	head := bytes.ToLower(b[:end])
	if !bytes.HasPrefix(head, []byte("http/1.1 200")) && !bytes.HasPrefix(head, []byte("http/1.0 200")) {
		return nil, fmt.Errorf("answered %.300q", b)
	}
	s.state = open
	s.chunked = bytes.Contains(head, []byte("\r\ntransfer-encoding: chunked"))
	if !s.NeedFrame {
		s.nowOpen()
	}
	return b[end+4:], nil
}

func (s *Stream) nowOpen() {
	if !s.opened {
		s.opened = true
		if s.OnOpen != nil {
			s.OnOpen(s)
		}
	}
}

// unchunk takes chunk headers out of b, in place; a header that is not whole waits in raw.
func (s *Stream) unchunk(b []byte) []byte {
	out := b[:0]
	for len(b) > 0 {
		if s.left == 0 {
			end := bytes.IndexByte(b, '\n')
			if end < 0 {
				s.raw = append(s.raw, b...)
				break
			}
			s.left = hex(b[:end]) + 2
			b = b[end+1:]
			continue
		}
		n := min(s.left, len(b))
		out = append(out, b[:max(0, min(n, s.left-2))]...) // the last two bytes are the chunk's line end
		s.left -= n
		b = b[n:]
	}
	return out
}

func hex(b []byte) (n int) {
	for _, c := range b {
		switch {
		case c >= '0' && c <= '9':
			n = n<<4 | int(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			n = n<<4 | int(c|0x20-'a'+10)
		default:
			return n
		}
	}
	return n
}

// lines handles whole lines and keeps what is left.
func (s *Stream) lines(b []byte) {
	if len(s.rest) > 0 {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			s.rest = append(s.rest, b...)
			return
		}
		s.rest = append(s.rest, b[:end]...)
		line := s.rest
		s.rest = s.rest[:0]
		s.line(line)
		b = b[end+1:]
	}
	for s.state == open {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			s.rest = append(s.rest, b...)
			return
		}
		s.line(b[:end])
		b = b[end+1:]
	}
}

func (s *Stream) line(b []byte) {
	switch {
	case len(b) > 5 && b[0] == 'd' && b[1] == 'a' && b[4] == ':':
		if s.Channel != nil {
			s.Channel.tally.heard(s, b)
		} else if s.OnData != nil {
			s.OnData(s, b)
		}
	case s.KeepID && len(b) > 3 && b[0] == 'i' && b[1] == 'd':
		s.LastID = string(bytes.TrimSpace(b[3:]))
	case len(b) == 0:
		s.nowOpen()
	}
}
