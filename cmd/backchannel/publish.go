package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"backchannel/broker"
)

const (
	// A request of the API holds at most 1,000 events and 1 MiB; half of that keeps the envelope inside it too.
	batchEvents = 1000
	batchBytes  = 512 << 10
	// maxLineBytes bounds a line of standard input: the most that a publish can carry.
	maxLineBytes = 1 << 20
)

// publishFlags say what to publish where.
type publishFlags struct {
	props         propertyFlags
	user, session string
	typ, id       string
	ttl           time.Duration
	lines         bool
}

// publishItem is one event as the API takes it.
type publishItem struct {
	Channel any             `json:"channel,omitempty"`
	User    string          `json:"user,omitempty"`
	Session string          `json:"session,omitempty"`
	Data    json.RawMessage `json:"data"`
	Type    string          `json:"type,omitempty"`
	ID      string          `json:"id,omitempty"`
	TTL     float64         `json:"ttl,omitempty"`
}

// publishAnswer is the answer to one event: its cursor or why it was refused.
type publishAnswer struct {
	ID       string `json:"id"`
	Repeated bool   `json:"repeated"`
	apiError
}

func publishCommand(u *ui) *cobra.Command {
	conn, f := &connection{u: u}, &publishFlags{}
	cmd := &cobra.Command{
		Use: "publish [CHANNEL] [DATA]", Short: "Publish events and print their cursors",
		Long: "Publish sends DATA, a JSON value, to a channel given by name, by properties (--context ...), or by --user or\n" +
			"--session. Without DATA it is read from standard input. With --lines each line of standard input is one event's\n" +
			"data; if no channel is given, each line is an object as POST /v1/publish takes it.",
		Example: "  backchannel publish room1 '{\"text\":\"hello\"}'\n  seq 1000 | backchannel publish room1 --lines",
		Args:    cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			p := &publisher{u: u, c: c, f: f}
			return p.run(cmd.Context(), args)
		},
	}
	conn.flags(cmd)
	f.props.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.user, "user", "", "publish on the own channel of this user `id`")
	fl.StringVar(&f.session, "session", "", "publish on the own channel of this session")
	fl.StringVar(&f.typ, "type", "", "event `type`")
	fl.StringVar(&f.id, "id", "", "makes a repeat within 24 h return the first cursor")
	fl.DurationVar(&f.ttl, "ttl", 0, "life of the event, if not the log's retention")
	fl.BoolVar(&f.lines, "lines", false, "each line of standard input is an event")
	return cmd
}

type publisher struct {
	u      *ui
	c      *client
	f      *publishFlags
	failed int
}

func (p *publisher) run(ctx context.Context, args []string) error {
	item, rest, err := p.target(args)
	if err != nil {
		return err
	}
	if p.f.lines {
		if len(rest) > 0 {
			return usagef("with --lines data comes from standard input")
		}
		return p.publishLines(ctx, item)
	}
	if item == nil {
		return usagef("where to? give a channel, properties (--context ...), --user or --session")
	}
	data, err := dataArgument(rest, p.u.in)
	if err != nil {
		return err
	}
	item.Data = data
	var answer publishAnswer
	if err := p.c.call(ctx, http.MethodPost, "/v1/publish", nil, item, &answer); err != nil {
		return err
	}
	return p.printAnswer(answer)
}

// target makes the event without its data from flags and arguments; nil if none names a channel.
func (p *publisher) target(args []string) (*publishItem, []string, error) {
	item := &publishItem{User: p.f.user, Session: p.f.session, Type: p.f.typ, ID: p.f.id, TTL: p.f.ttl.Seconds()}
	named := 0
	for _, b := range []bool{p.f.user != "", p.f.session != "", p.f.props.p != broker.Properties{}} {
		if b {
			named++
		}
	}
	switch {
	case named > 1:
		return nil, nil, usagef("give one of: channel, properties, --user, --session")
	case named == 1 && len(args) > 1:
		return nil, nil, usagef("the channel is given twice: %q and by flags", args[0])
	case named == 1:
		if p.f.props.p != (broker.Properties{}) {
			item.Channel = p.f.props.p
		}
		return item, args, nil
	case len(args) == 0:
		return nil, nil, nil
	}
	item.Channel = args[0]
	return item, args[1:], nil
}

// dataArgument is the JSON of an argument or of standard input, checked and compacted.
func dataArgument(args []string, in io.Reader) (json.RawMessage, error) {
	var text []byte
	if len(args) > 0 {
		text = []byte(args[0])
	} else {
		var err error
		if text, err = io.ReadAll(io.LimitReader(in, maxLineBytes+1)); err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
		if len(text) > maxLineBytes {
			return nil, usagef("standard input: more than %s", Size(maxLineBytes))
		}
	}
	data, err := broker.CompactJSON(bytes.TrimSpace(text))
	if err != nil {
		return nil, usagef("%w; a text needs its quotes: '\"hello\"'", err)
	}
	return data, nil
}

func (p *publisher) publishLines(ctx context.Context, target *publishItem) error {
	scan := bufio.NewScanner(p.u.in)
	scan.Buffer(make([]byte, 64<<10), maxLineBytes)
	var batch []any
	size, number := 0, 0
	for scan.Scan() {
		number++
		line := bytes.TrimSpace(scan.Bytes())
		if len(line) == 0 {
			continue
		}
		data, err := broker.CompactJSON(line)
		if err != nil {
			return fmt.Errorf("line %d: %w", number, err)
		}
		if len(batch) == batchEvents || len(batch) > 0 && size+len(data) > batchBytes {
			if err := p.send(ctx, batch); err != nil {
				return err
			}
			batch, size = nil, 0
		}
		batch, size = append(batch, lineItem(target, data)), size+len(data)
	}
	if err := scan.Err(); err != nil {
		return fmt.Errorf("read standard input: %w", err)
	}
	if err := p.send(ctx, batch); err != nil {
		return err
	}
	if p.failed > 0 {
		return fmt.Errorf("%d events were refused", p.failed)
	}
	return nil
}

func lineItem(target *publishItem, data json.RawMessage) any {
	if target == nil {
		return data
	}
	item := *target
	item.Data = data
	return item
}

func (p *publisher) send(ctx context.Context, batch []any) error {
	if len(batch) == 0 {
		return nil
	}
	var answer struct {
		Results []publishAnswer `json:"results"`
	}
	body := struct {
		Events []any `json:"events"`
	}{batch}
	if err := p.c.call(ctx, http.MethodPost, "/v1/publish", nil, body, &answer); err != nil {
		return err
	}
	for _, a := range answer.Results {
		if err := p.printAnswer(a); err != nil {
			return err
		}
	}
	return nil
}

func (p *publisher) printAnswer(a publishAnswer) error {
	switch {
	case a.ID == "":
		p.failed++
		p.u.note("%s", a.Error())
		return nil
	case a.Repeated:
		return p.u.print(a.ID, "repeated")
	default:
		return p.u.print(a.ID)
	}
}
