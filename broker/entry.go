package broker

import "time"

// entry is one subscription of a stream. A page may have hundreds, so what most have not is held apart.
type entry struct {
	channel   ChannelID
	component ComponentID
	filter    Filter
	// extra is the entry as granted if it has more than the fields above; nil otherwise.
	extra *Entry
	// grants gave it; it ends when the last of them does.
	grants []*Grant
	// after: events up to here are not owed. base: the chain of counted events is known to be whole up to here.
	after, base uint64
	// from is the position at which it joined, which a resume token names.
	from uint64

	st        *stream
	bucket    *bucket // of the index; nil until the entry is live
	slot      int32   // in bucket
	recovered bool
}

// newEntry makes the entry that e gives; by are the grants that gave it, shared with other entries.
func newEntry(st *stream, e *Entry, by []*Grant) *entry {
	out := &entry{channel: e.Channel, component: e.Component, filter: e.Filter, grants: by, st: st}
	if e.As != string(e.Channel) || e.Ref != "" || e.Presence != "" || e.Write || e.Rooms {
		more := *e
		more.From = Start{}
		out.extra = &more
	}
	return out
}

// as is the page's name for the entry.
func (e *entry) as() string {
	if e.extra != nil {
		return e.extra.As
	}
	return string(e.channel)
}

// join notes the position from which the entry is owed.
func (e *entry) join(at uint64) { e.after, e.base, e.from = at, at, at }

// granted is the entry as a resume token has to hold it.
func (e *entry) granted(epoch Epoch) Entry {
	out := Entry{Channel: e.channel, As: string(e.channel), Component: e.component, Filter: e.filter}
	if e.extra != nil {
		out = *e.extra
	}
	out.Last = 0 // a stream that goes on has a position instead
	out.From = Start{Cursor: Cursor{epoch, e.from}.String()}
	return out
}

// until is when the last grant ends.
func (e *entry) until() time.Time {
	var last time.Time
	for _, g := range e.grants {
		if g.Until.After(last) {
			last = g.Until
		}
	}
	return last
}

// same tells whether granting other again changes nothing but the end of e.
func (e *entry) same(other *entry) bool {
	if e.channel != other.channel || e.as() != other.as() || len(e.filter) != len(other.filter) {
		return false
	}
	for k, v := range e.filter {
		if w, ok := other.filter[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// asked is an entry that does not know yet from where it is owed.
type asked struct {
	*entry
	from Start
	last int
}

// mergeEntries makes a stream's entries of all its grants. What is granted twice is one entry that lives as long as
// the later grant.
func mergeEntries(st *stream, grants []*Grant, limit int) ([]asked, error) {
	var out []asked
	byChannel := make(map[ChannelID][]*entry)
	for _, g := range grants {
		by := []*Grant{g}
	next:
		for i := range g.Entries {
			made := newEntry(st, &g.Entries[i], by)
			for _, e := range byChannel[made.channel] {
				if e.same(made) {
					e.grants = append(e.grants[:len(e.grants):len(e.grants)], g)
					continue next
				}
			}
			if len(out) == limit {
				return nil, Errorf(CodeTooLarge, "the stream would have more than %d channels, its site's limit", limit)
			}
			out = append(out, asked{made, g.Entries[i].From, g.Entries[i].Last})
			byChannel[made.channel] = append(byChannel[made.channel], made)
		}
	}
	return out, nil
}

func entriesOf(all []asked) []*entry {
	out := make([]*entry, len(all))
	for i, a := range all {
		out[i] = a.entry
	}
	return out
}
