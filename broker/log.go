package broker

import (
	"context"
	"time"
)

// Log is what the broker needs of a store. persist/persisttest is its definition: a rule that is not tested there
// does not exist. All methods may be called from many goroutines.
type Log interface {
	// Append stores drafts in their order, in one commit, and returns one result for each. It is durable when it
	// returns nil; it never dispatches. A draft whose Key stands on its channel already, in the log or earlier in
	// the same call, is answered with the first position. After an error the drafts may or may not be stored:
	// callers repeat with their Key. CodeStoreFull if space is short, CodeUnavailable if the store is closing or in
	// doubt.
	Append(ctx context.Context, drafts []Draft) ([]Appended, error)

	// Revoke stores r durably as a record of the log and keeps it for RevocationLife.
	Revoke(ctx context.Context, r Revocation) (Cursor, error)

	// Revocations returns every revocation still kept, those of records that Tail has not delivered yet included.
	Revocations(ctx context.Context) ([]Revocation, error)

	// Purge removes the stored events of ch for good and returns how many there were. The channel remembers the
	// position of its last counted event, so whoever was behind learns of the loss.
	Purge(ctx context.Context, ch Channel) (int, error)

	// Range returns the kept events of ch after a position, oldest first, from one snapshot. It seeks: its cost
	// depends on what it returns.
	Range(ctx context.Context, ch Channel, after uint64, max PageLimit) (Page, error)

	// Last returns the newest n kept events of ch, oldest first. (Page.More tells whether older ones are kept.)
	Last(ctx context.Context, ch Channel, n int) (Page, error)

	// Scan is Range over all channels of a site. Page.Last is 0. It reads past other sites' events.
	Scan(ctx context.Context, site SiteID, after uint64, max PageLimit) (Page, error)

	// Channel tells what is kept of ch; a channel nobody ever published to is the zero value.
	Channel(ctx context.Context, ch Channel) (ChannelState, error)

	// Channels lists the channels of a site that ever had an event, by ID in byte order, after a given one.
	Channels(ctx context.Context, site SiteID, after ChannelID, max int) ([]ChannelState, error)

	// At gives the position of a moment: that of the last record not later than t. known is false if t lies before
	// the log's floor: what retention (age or total) has removed, or the making of the store.
	At(ctx context.Context, t time.Time) (seq uint64, known bool, err error)

	// Position is the newest durable position.
	Position(ctx context.Context) (Cursor, error)

	// Tail calls deliver with every record after a position, in order, without gaps but for what retention removed,
	// in batches as they were synced, until ctx ends; it returns ctx's error then. deliver is called from one
	// goroutine and keeps the events, not the slice. A Tail that cannot keep up reads the log from its own
	// position: it never slows Append.
	Tail(ctx context.Context, after uint64, deliver func([]Event)) error
}

// Appended is the answer to one Draft.
type Appended struct {
	Cursor Cursor
	// Repeated says that the Key was known and Cursor is the first one's.
	Repeated bool
}

// PageLimit bounds a page. Reading stops after the event that reaches either bound; zero means 1,000 events and 1 MiB.
type PageLimit struct {
	Events int
	Bytes  int // of Data
}

// Page is part of a channel's history, all from one snapshot of the store.
type Page struct {
	Events []Event
	// Through: everything of this channel up to here that is kept is in the pages up to this one. It is the
	// position of the last event if More, else the store's position when the page was read.
	Through uint64
	// More says that a bound stopped the page.
	More bool
	// Last is the position of the channel's last counted event, kept or not. It is meaningful where More is false.
	Last uint64
}

// Continues tells whether nothing counted is missing between base and the end of the page, and where the next page
// has to continue: every counted event must name the one before it. This is the rule behind "recovered" and "gap"; walk
// follows it over a page that is sent in part, and Hub.whole over its first link alone.
func (p Page) Continues(base uint64) (next uint64, ok bool) {
	for i := range p.Events {
		if e := &p.Events[i]; e.Counted {
			if e.Prev > base {
				return base, false
			}
			base = e.Seq
		}
	}
	if !p.More && p.Last > base {
		return base, false
	}
	return base, true
}

// ChannelState is what a store knows of a channel.
type ChannelState struct {
	Channel Channel
	// First and Newest are the positions of the oldest and newest kept event, 0 if none is kept.
	First, Newest uint64
	// Last is the position of the last counted event ever, kept or not.
	Last uint64
	// Time is when the newest event was stored, in microseconds since 1970, kept or not.
	Time int64
}
