package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"backchannel/broker"
)

// propertyFlags name a channel by what an LMS knows of it.
type propertyFlags struct{ p broker.Properties }

func (f *propertyFlags) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.p.Context, "context", "", "channel property: context")
	cmd.Flags().StringVar(&f.p.Component, "component", "", "channel property: component")
	cmd.Flags().StringVar(&f.p.Area, "area", "", "channel property: area")
	cmd.Flags().StringVar(&f.p.Item, "item", "", "channel property: item")
	cmd.Flags().StringVar(&f.p.Details, "details", "", "channel property: details")
}

// given tells whether a channel is named by properties. A component alone only owns channels that are named.
func (f *propertyFlags) given() bool {
	p := f.p
	p.Component = ""
	return p != broker.Properties{}
}

// channels gives the ids of named channels and of the one described by properties.
func (f *propertyFlags) channels(names []string, salt []byte) ([]broker.ChannelID, error) {
	var out []broker.ChannelID
	for _, n := range names {
		id, err := broker.ParseChannelID(n)
		if err != nil {
			return nil, usageError{err}
		}
		out = append(out, id)
	}
	if f.given() || len(names) == 0 && f.p.Component != "" {
		id, err := f.p.Hash(salt)
		if err != nil {
			return nil, usageError{err}
		}
		out = append(out, id)
	}
	return out, nil
}

// parseStart reads --from: a cursor, a time (Unix seconds or RFC 3339), "now", or a duration back from now.
func parseStart(s string, now time.Time) (broker.Start, error) {
	if s == "" {
		return broker.Start{}, nil
	}
	if c, err := broker.ParseCursor(s); err == nil {
		return broker.Start{Cursor: c.String()}, nil
	}
	t, err := parseMoment(s, now)
	if err != nil {
		return broker.Start{}, usagef("--from %q: want a cursor, a time or a duration; write x7k2m9qa-1042, 1790000000, 2026-09-21T12:00:00Z, now, or 5m (for 5 minutes ago)", s)
	}
	return broker.Start{Time: t}, nil
}

func parseMoment(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if t, err := time.Parse(time.RFC3339Nano, s); err == nil {
		return t, nil
	}
	if f, err := strconv.ParseFloat(s, 64); err == nil && f > 0 && f < 253402300799 {
		return time.UnixMicro(int64(f * 1e6)), nil
	}
	var d Duration
	if err := d.UnmarshalText([]byte(strings.TrimPrefix(s, "-"))); err != nil {
		return time.Time{}, err
	}
	return now.Add(-time.Duration(d)), nil
}
