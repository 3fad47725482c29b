package main

import (
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"backchannel/broker"
)

// grantFlags describe a grant to mint.
type grantFlags struct {
	props                 propertyFlags
	user, session, jti    string
	channels, send        []string
	filter, presence      string
	write, rooms          bool
	last                  int
	exp, until            time.Duration
	from, info, seal, ref string
}

func grantCommand(u *ui) *cobra.Command {
	conn, f := &connection{u: u}, &grantFlags{}
	cmd := &cobra.Command{
		Use: "grant", Short: "Mint a grant and print it",
		Long: "Grant signs what a page may do, as an LMS does when it renders one. It needs no running broker.",
		Example: "  backchannel grant --site moodle --user 5 --channel room1 --send mod_kahoodle\n" +
			"  backchannel grant --site moodle --user 5 --context 42 --component mod_kahoodle --area game --item 7 --from now",
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			d, err := conn.resolve()
			if err != nil {
				return err
			}
			claims, err := f.claims(d, u.now())
			if err != nil {
				return err
			}
			token, err := signGrant(d.Key, claims)
			if err != nil {
				return err
			}
			return u.print(token)
		},
	}
	conn.flags(cmd)
	f.flags(cmd)
	return cmd
}

func (f *grantFlags) flags(cmd *cobra.Command) {
	f.props.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.user, "user", "", "user `id` (sub)")
	fl.StringVar(&f.session, "session", "", "keyed hash of the LMS session (sid)")
	fl.StringVar(&f.jti, "jti", "", "the grant's own `id` (default random)")
	fl.StringArrayVar(&f.channels, "channel", nil, "`name` of a channel to hear; may be repeated")
	fl.StringArrayVar(&f.send, "send", nil, "`component` to which messages may be sent; may be repeated")
	fl.StringVar(&f.filter, "filter", "", "`JSON` object that events' data must match")
	fl.StringVar(&f.presence, "presence", "", "member, watch or both")
	fl.BoolVar(&f.write, "write", false, "pages may publish to the channels themselves (peers)")
	fl.BoolVar(&f.rooms, "rooms", false, "every room under the channels is granted too")
	fl.IntVar(&f.last, "last", 0, "replay the last `n` matching events")
	fl.DurationVar(&f.exp, "exp", 10*time.Minute, "for how long streams may be opened with it")
	fl.DurationVar(&f.until, "until", broker.DefaultGrantLife, "for how long streams opened with it live")
	fl.StringVar(&f.from, "from", "", "cursor, time or duration back: the moment before the page read its state")
	fl.StringVar(&f.info, "info", "", "presence info, a `JSON` object")
	fl.StringVar(&f.seal, "seal", "", "opaque text given back in every webhook about this user")
	fl.StringVar(&f.ref, "ref", "", "opaque text given back in notices about the channels")
}

// claims checks what the flags say with the broker's own rules, so that a grant that is printed is one that is taken.
func (f *grantFlags) claims(d broker.DSN, now time.Time) (broker.Claims, error) {
	c := broker.Claims{
		Issuer: string(d.Site), Audience: "backchannel", Subject: f.user, Session: f.session, ID: f.jti,
		IssuedAt: broker.NumericDateOf(now.Truncate(time.Second)), Expires: broker.NumericDateOf(now.Add(f.exp).Truncate(time.Second)),
		Until: broker.NumericDateOf(now.Add(max(f.until, f.exp)).Truncate(time.Second)), Seal: f.seal, Channels: []broker.EntryClaim{},
	}
	if c.ID == "" {
		c.ID = randomID()
	}
	if f.info != "" {
		c.Info = json.RawMessage(f.info)
	}
	for _, s := range f.send {
		c.Send = append(c.Send, broker.ComponentID(s))
	}
	start, err := parseStart(f.from, now)
	if err != nil {
		return c, err
	}
	c.From = broker.StartClaim(start)
	entry := broker.EntryClaim{
		Component: broker.ComponentID(f.props.p.Component), Ref: f.ref, Presence: broker.Presence(f.presence),
		Write: f.write, Rooms: f.rooms, Last: f.last,
	}
	if f.filter != "" {
		if err := json.Unmarshal([]byte(f.filter), &entry.Filter); err != nil {
			return c, usagef("--filter: want a JSON object of scalars, such as {\"id\":5}")
		}
	}
	ids, err := f.props.channels(f.channels, d.Salt)
	if err != nil {
		return c, err
	}
	for _, id := range ids {
		entry.Channel = id
		c.Channels = append(c.Channels, entry)
	}
	if _, err := c.Grant(now, len(c.Channels)); err != nil {
		return c, usageError{err}
	}
	if f.info != "" && !json.Valid(c.Info) {
		return c, usagef("--info: want a JSON object")
	}
	return c, nil
}
