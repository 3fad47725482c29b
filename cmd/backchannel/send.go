package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"backchannel/broker"
	"backchannel/webhooks"
)

// sendFlags say what message to send and as whom.
type sendFlags struct {
	user, session, id, seal string
	job, settle, wait       bool
	ask                     string
	deadline                time.Duration
}

// messageAnswer is what a page is told of a message.
type messageAnswer struct {
	ID      string           `json:"id"`
	Outcome webhooks.Outcome `json:"outcome"`
	Reply   json.RawMessage  `json:"reply,omitempty"`
	Error   json.RawMessage  `json:"error,omitempty"`
}

func sendCommand(u *ui) *cobra.Command {
	conn, f := &connection{u: u}, &sendFlags{}
	cmd := &cobra.Command{
		Use: "send COMPONENT [DATA]", Short: "Send a message to a component as a page does, and print its outcome",
		Long: "Send mints a grant for COMPONENT, posts a call (or, with --job, a job) and waits for its outcome, asking by id as\n" +
			"often as it takes. DATA is a JSON value; without it, it is read from standard input. It ends with code 0 if the\n" +
			"outcome is delivered or queued, else with 1.",
		Example: "  backchannel send mod_kahoodle '{\"answer\":3}'",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			a, err := f.run(cmd.Context(), u, c, args)
			if err != nil {
				return err
			}
			text, err := json.Marshal(a)
			if err != nil {
				return fmt.Errorf("print outcome: %w", err)
			}
			if err := u.print(string(text)); err != nil {
				return err
			}
			if a.Outcome != webhooks.OutcomeDelivered && a.Outcome != webhooks.OutcomeQueued {
				return fmt.Errorf("the outcome is %s", a.Outcome)
			}
			return nil
		},
	}
	conn.flags(cmd)
	fl := cmd.Flags()
	fl.StringVar(&f.user, "user", "cli", "user `id` to send as")
	fl.StringVar(&f.session, "session", "", "session to send as")
	fl.StringVar(&f.seal, "seal", "", "opaque text given back in the webhook")
	fl.StringVar(&f.id, "id", "", "message id, a `UUID` (default random); repeating it is asking")
	fl.BoolVar(&f.job, "job", false, "nobody waits: queue it and retry for days")
	fl.BoolVar(&f.wait, "wait", false, "with --job: ask until there is an outcome")
	fl.StringVar(&f.ask, "ask", "", "send nothing: ask for the outcome of this `UUID`")
	fl.BoolVar(&f.settle, "settle", false, "with --ask: an id that was not sent never will be")
	fl.DurationVar(&f.deadline, "deadline", 10*time.Second, "of a call, at most 60s")
	return cmd
}

func (f *sendFlags) run(ctx context.Context, u *ui, c *client, args []string) (messageAnswer, error) {
	component, err := broker.ParseComponentID(args[0])
	if err != nil {
		return messageAnswer{}, usageError{err}
	}
	grant, err := f.grant(c, component)
	if err != nil {
		return messageAnswer{}, err
	}
	var a messageAnswer
	if f.ask != "" {
		a, err = f.askOnce(ctx, c, grant, f.ask)
	} else {
		a, err = f.post(ctx, u, c, grant, component, args[1:])
	}
	for err == nil && (a.Outcome == webhooks.OutcomePending || f.wait && a.Outcome == webhooks.OutcomeQueued) {
		if ctx.Err() != nil {
			return a, fmt.Errorf("wait for the outcome of %s: %w", a.ID, context.Cause(ctx))
		}
		a, err = f.askOnce(ctx, c, grant, a.ID)
	}
	return a, err
}

func (f *sendFlags) grant(c *client, component broker.ComponentID) (string, error) {
	g := grantFlags{user: f.user, session: f.session, seal: f.seal, send: []string{string(component)}, exp: time.Hour, until: time.Hour}
	claims, err := g.claims(c.dsn, c.now())
	if err != nil {
		return "", err
	}
	return signGrant(c.dsn.Key, claims)
}

func (f *sendFlags) post(ctx context.Context, u *ui, c *client, grant string, component broker.ComponentID, args []string) (messageAnswer, error) {
	data, err := dataArgument(args, u.in)
	if err != nil {
		return messageAnswer{}, err
	}
	id := f.id
	if id == "" {
		id = uuid.NewString()
	}
	body := map[string]any{"grant": grant, "id": id, "component": component, "data": data, "kind": webhooks.KindCall}
	if f.job {
		body["kind"] = webhooks.KindJob
	} else {
		body["deadline"] = f.deadline.Seconds()
	}
	var a messageAnswer
	err = c.asPage(ctx, "/v1/messages", body, &a)
	return a, err
}

func (f *sendFlags) askOnce(ctx context.Context, c *client, grant, id string) (messageAnswer, error) {
	if _, err := uuid.Parse(id); err != nil {
		return messageAnswer{}, usagef("message id %q: want a UUID", id)
	}
	body := map[string]any{"grant": grant}
	if f.settle {
		body["settle"] = true
	}
	var a messageAnswer
	err := c.asPage(ctx, "/v1/messages/"+id, body, &a)
	return a, err
}

func revokeCommand(u *ui) *cobra.Command {
	conn := &connection{u: u}
	var props propertyFlags
	var jti, session, user, channel, before string
	cmd := &cobra.Command{
		Use: "revoke", Short: "Take away what grants gave, and print how many streams it hit",
		Example: "  backchannel revoke --user 5\n  backchannel revoke --session 8c1f... --site moodle",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := conn.client()
			if err != nil {
				return err
			}
			if props.p != (broker.Properties{}) {
				id, err := props.p.Hash(c.dsn.Salt)
				if err != nil || channel != "" {
					return usagef("give the channel once, by --channel or by properties")
				}
				channel = string(id)
			}
			body, err := revocationBody(map[string]string{"jti": jti, "sid": session, "user": user, "channel": channel}, before, u.now())
			if err != nil {
				return err
			}
			var answer struct {
				Streams int `json:"streams"`
			}
			if err := c.call(cmd.Context(), http.MethodPost, "/v1/revoke", nil, body, &answer); err != nil {
				return err
			}
			return u.print(answer.Streams)
		},
	}
	conn.flags(cmd)
	props.flags(cmd)
	cmd.Flags().StringVar(&jti, "jti", "", "`id` of a grant")
	cmd.Flags().StringVar(&session, "session", "", "keyed hash of an LMS session (sid)")
	cmd.Flags().StringVar(&user, "user", "", "user `id`")
	cmd.Flags().StringVar(&channel, "channel", "", "channel `name`")
	cmd.Flags().StringVar(&before, "before", "", "for --user and --channel: only grants issued up to this time (default the broker's now + 60 s)")
	return cmd
}

func revocationBody(names map[string]string, before string, now time.Time) (map[string]any, error) {
	body := map[string]any{}
	for k, v := range names {
		if v != "" {
			body[k] = v
		}
	}
	if len(body) != 1 {
		return nil, usagef("give one of --jti, --session, --user and --channel")
	}
	if before != "" {
		t, err := parseMoment(before, now)
		if err != nil {
			return nil, usagef("--before %q: want a time; write 1790000000 or 2026-09-21T12:00:00Z", before)
		}
		body["before"] = broker.NumericDateOf(t)
	}
	return body, nil
}
