package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/r3labs/sse/v2"
	"github.com/spf13/cobra"
	"gopkg.in/cenkalti/backoff.v1"

	"backchannel/broker"
)

const (
	// The broker speaks at least every 15 s; three times that is not a hiccup any more.
	tailSilence = 45 * time.Second
	// A broker that is away is asked again after its own retry, doubled up to this.
	tailMaxWait = 15 * time.Second
)

var errEnough = errors.New("enough events")

// tailFlags say what to hear.
type tailFlags struct {
	grantFlags
	siteWide bool
	count    int
	verbose  bool
	life     time.Duration
}

func tailCommand(u *ui) *cobra.Command {
	conn, f := &connection{u: u}, &tailFlags{}
	f.exp = time.Hour
	cmd := &cobra.Command{
		Use: "tail [CHANNEL...]", Short: "Print events as they come, one JSON object a line",
		Long: "Tail opens a stream with a grant of its own and prints what a page would hear. It reconnects for ever, with its\n" +
			"cursor. Events that retention removed before they could be heard are named in a line with \"event\":\"gap\".\n" +
			"With --site-wide it prints the events of every channel of the site, from the log.",
		Example: "  backchannel tail room1 --from 5m\n  backchannel tail --site-wide --from 24h",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			ctx, stop := interruptible(cmd.Context())
			defer stop()
			if f.life > 0 {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, f.life)
				defer cancel()
			}
			err = f.run(ctx, u, c, args)
			switch {
			case errors.Is(err, errEnough):
				return nil
			case f.count > 0 && errors.Is(ctx.Err(), context.DeadlineExceeded):
				return fmt.Errorf("not %d events within %s", f.count, f.life)
			case ctx.Err() != nil:
				return nil // stopped by whoever started it
			}
			return err
		},
	}
	conn.flags(cmd)
	f.props.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.user, "user", "", "hear the own channel of this user `id`")
	fl.StringVar(&f.session, "session", "", "hear the own channel of this session")
	fl.BoolVar(&f.siteWide, "site-wide", false, "every channel of the site")
	fl.StringVar(&f.from, "from", "", "cursor, time or duration back to start from (default now)")
	fl.StringVar(&f.filter, "filter", "", "`JSON` object that events' data must match")
	fl.IntVar(&f.last, "last", 0, "begin with the last `n` events")
	fl.IntVar(&f.count, "count", 0, "end after `n` events")
	fl.DurationVar(&f.life, "for", 0, "end after this time")
	fl.BoolVar(&f.verbose, "verbose", false, "print control frames too, and why a stream ended")
	return cmd
}

func (f *tailFlags) run(ctx context.Context, u *ui, c *client, args []string) error {
	t := &tail{u: u, c: c, f: f}
	if f.siteWide {
		if len(args) > 0 || f.props.given() || f.user != "" || f.session != "" {
			return usagef("--site-wide hears every channel; name none")
		}
		return t.siteWide(ctx)
	}
	if err := f.addOwnChannels(c.dsn.Salt); err != nil {
		return err
	}
	f.channels = append(f.channels, args...)
	if len(f.channels) == 0 && (f.props.p == broker.Properties{}) {
		return usagef("which channel? give a name, properties (--context ...), --user, --session or --site-wide")
	}
	return t.stream(ctx)
}

func (f *tailFlags) addOwnChannels(salt []byte) error {
	for id, hash := range map[string]func([]byte, string) (broker.ChannelID, error){f.user: broker.UserChannel, f.session: broker.SessionChannel} {
		if id == "" {
			continue
		}
		ch, err := hash(salt, id)
		if err != nil {
			return usageError{err}
		}
		f.channels = append(f.channels, string(ch))
	}
	return nil
}

// tail is one run of the command; used by one goroutine.
type tail struct {
	u      *ui
	c      *client
	f      *tailFlags
	cursor string // of the newest frame that was printed or needed no printing
	seen   int
	// fatal is a refusal that coming back cannot mend.
	fatal error
}

// stream keeps a stream open until ctx ends. The client's own loop is not used: it takes a clean end for success, gives
// up after 15 minutes, sleeps without minding ctx, and does not know the server's retry.
func (t *tail) stream(ctx context.Context) error {
	if t.f.from == "" && t.f.last == 0 {
		t.f.from = "now"
	}
	start, err := parseStart(t.f.from, t.u.now())
	if err != nil {
		return err
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	guard := &frameGuard{next: transport, silence: tailSilence}
	wait := time.Duration(0)
	for ctx.Err() == nil {
		before := t.cursor
		err := t.connect(ctx, guard, start)
		if t.fatal != nil {
			return t.fatal
		}
		if errors.Is(err, errEnough) || ctx.Err() != nil {
			return err
		}
		if t.f.verbose || err != nil {
			t.u.note("stream ended, coming back: %s", endReason(err))
		}
		least := time.Duration(guard.retry.Load()) * time.Millisecond
		if wait *= 2; t.cursor != before || wait < least {
			wait = max(least, 100*time.Millisecond)
		}
		pause(ctx, min(wait, tailMaxWait))
	}
	return ctx.Err()
}

func endReason(err error) string {
	if err == nil {
		return "the broker closed it"
	}
	return err.Error()
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// connect opens one stream with a fresh grant and reads it to its end.
func (t *tail) connect(ctx context.Context, guard *frameGuard, start broker.Start) error {
	claims, err := t.f.claims(t.c.dsn, t.u.now())
	if err != nil {
		t.fatal = err
		return err
	}
	claims.From = broker.StartClaim(start)
	token, err := signGrant(t.c.dsn.Key, claims)
	if err != nil {
		t.fatal = err
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cl := sse.NewClient(t.c.dsn.Server()+"/v1/stream?"+url.Values{"grant": {token}}.Encode(), sse.ClientMaxBufferSize(maxFrameBytes))
	cl.Connection = &http.Client{Transport: guard}
	cl.ReconnectStrategy = &backoff.StopBackOff{}
	cl.ResponseValidator = t.validate
	if t.cursor != "" {
		cl.LastEventID.Store([]byte(t.cursor))
	}
	var failed error
	err = cl.SubscribeRawWithContext(ctx, func(e *sse.Event) {
		if failed != nil {
			return
		}
		if failed = t.frame(e); failed != nil {
			cancel() // the client has no other way to be told
		}
	})
	if failed != nil {
		return failed
	}
	if _, refused := errors.AsType[*apiError](err); err == nil || refused {
		return err
	}
	return unreachable(t.c.dsn, err)
}

// validate keeps refusals that will not change from being tried for ever.
func (t *tail) validate(_ *sse.Client, resp *http.Response) error {
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	defer func() { _ = resp.Body.Close() }()
	err := readAnswer(resp, nil)
	if err == nil {
		err = fmt.Errorf("the answer to a stream is %s, want 200; is this a broker?", resp.Status)
	}
	if !temporary(err) {
		t.fatal = err
	}
	return err
}

// frame handles one frame: print it if it is for the reader, then move the cursor.
func (t *tail) frame(e *sse.Event) error {
	name := string(e.Event)
	var err error
	switch {
	case len(e.Data) == 0:
		return nil
	case name == broker.FrameHello:
		t.warnUnrecovered(e.Data)
		err = t.control(e)
	case name == broker.FrameGap:
		err = t.print(e)
	case name == broker.FrameHeartbeat || name == broker.FrameChannels || name == broker.FrameBye || name == broker.FramePresence:
		err = t.control(e)
	default:
		if err = t.print(e); err == nil {
			t.seen++
		}
	}
	if err != nil {
		return err
	}
	if len(e.ID) > 0 {
		t.cursor = string(e.ID)
	}
	if t.f.count > 0 && t.seen >= t.f.count {
		return errEnough
	}
	return nil
}

func (t *tail) control(e *sse.Event) error {
	if !t.f.verbose {
		return nil
	}
	return t.print(e)
}

// warnUnrecovered tells of channels whose events from the start on are not all there.
func (t *tail) warnUnrecovered(data []byte) {
	var hello struct {
		Channels []struct {
			Channel   string `json:"channel"`
			Recovered bool   `json:"recovered"`
		} `json:"channels"`
	}
	if json.Unmarshal(data, &hello) != nil {
		return
	}
	for _, ch := range hello.Channels {
		if !ch.Recovered && (t.cursor != "" || t.f.from != "now") {
			t.u.note("channel %s: not everything since the start is kept any more; going on from now", ch.Channel)
		}
	}
}

// print writes a frame as one line: its id and event, then the members of its data.
func (t *tail) print(e *sse.Event) error {
	head := map[string]string{}
	if len(e.ID) > 0 && !isReplay(e.Data) {
		head["id"] = string(e.ID)
	}
	if len(e.Event) > 0 {
		head["event"] = string(e.Event)
	}
	text, err := json.Marshal(head)
	if err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	if !json.Valid(e.Data) || e.Data[0] != '{' {
		return fmt.Errorf("the broker sent a frame that is not a JSON object: %.80q", e.Data)
	}
	line := text[:len(text)-1]
	if rest := e.Data[1:]; rest[0] != '}' {
		if len(head) > 0 {
			line = append(line, ',')
		}
		line = append(line, rest...)
	} else {
		line = append(line, '}')
	}
	return t.u.print(string(line))
}

// isReplay tells history from what moves the cursor: the client gives the id before to frames that have none.
func isReplay(data []byte) bool {
	var d struct {
		Replay bool `json:"replay"`
	}
	return json.Unmarshal(data, &d) == nil && d.Replay
}
