package load

import (
	"bytes"
	"fmt"
	"strconv"
)

// Publisher is a connection that sends one request at a time and keeps alive.
type Publisher struct {
	// OnAnswer is called with the body of each 2xx answer; the body is valid during the call only. Any other answer is
	// an error of the loop.
	OnAnswer func(p *Publisher, body []byte)
	// Index counts the publishers of a loop.
	Index int32
	// Busy is whether an answer is awaited, and Sent since when, in ns since the loop's start.
	Busy bool
	Sent int64
	// Latency is of requests; nil for none.
	Latency *Histogram

	conn
	connected bool
	request   []byte
	raw       []byte
}

// Connect opens the connection of p; requests may be given to it at once.
func (l *Loop) Connect(p *Publisher) (err error) {
	p.conn, p.connected, err = l.dial(p)
	return err
}

// Close ends the connection.
func (p *Publisher) Close() { p.close() }

// Send sends a request, which must not be changed until it is answered. The publisher must not be busy.
func (p *Publisher) Send(request []byte) error {
	p.Busy, p.Sent = true, p.loop.Clock()
	if !p.connected {
		p.request = request
		return nil
	}
	if err := p.write(request); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func (p *Publisher) ready(uint32) {
	if err := p.advance(); err != nil {
		p.loop.fail(fmt.Errorf("publisher: %w", err))
		p.close()
	}
}

func (p *Publisher) advance() error {
	if !p.connected {
		p.connected = true
		if err := p.listen(); err != nil {
			return err
		}
		if p.request == nil {
			return nil
		}
		return p.write(p.request)
	}
	kept := copy(p.loop.buf, p.raw)
	n, err := p.read(kept)
	switch {
	case err != nil:
		return err
	case n < 0:
		return nil
	case n == 0:
		return fmt.Errorf("the server closed the connection")
	}
	b := p.loop.buf[:kept+n]
	p.raw = p.raw[:0]
	body, whole, err := answer(b)
	if err != nil {
		return err
	}
	if !whole {
		p.raw = append(p.raw, b...)
		return nil
	}
	p.Busy = false
	p.loop.Now = p.loop.Clock()
	if p.Latency != nil {
		p.Latency.Add(p.loop.Now - p.Sent)
	}
	if p.OnAnswer != nil {
		p.OnAnswer(p, body)
	}
	return nil
}

// answer reads a whole response; chunk headers stay in its body.
func answer(b []byte) (body []byte, whole bool, err error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return nil, false, nil
	}
	head, body := b[:end+2], b[end+4:]
	if len(head) < 12 || head[9] != '2' {
		return nil, false, fmt.Errorf("answered %.300q", b)
	}
	if string(head[9:12]) == "204" {
		return body, true, nil
	}
	if v, ok := header(head, "content-length"); ok {
		n, err := strconv.Atoi(v)
		return body, len(body) >= n, err
	}
	return body, bytes.HasSuffix(body, []byte("0\r\n\r\n")), nil
}

// header finds a field without allocating more than its value.
func header(head []byte, name string) (string, bool) {
	for len(head) > 0 {
		line, rest, _ := bytes.Cut(head, []byte("\r\n"))
		if len(line) > len(name) && line[len(name)] == ':' && bytes.EqualFold(line[:len(name)], []byte(name)) {
			return string(bytes.TrimSpace(line[len(name)+1:])), true
		}
		head = rest
	}
	return "", false
}
