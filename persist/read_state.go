package persist

import (
	"context"
	"sort"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

// at finds the position of a moment. Records may be missing anywhere, so it looks for the first kept one that is later
// and asks it for the time of its predecessor, kept or not.
func (sn *snapshot) at(t int64) (uint64, error) {
	if sn.last.time <= t {
		return sn.last.seq, nil
	}
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindEvent}})
	defer it.Close()
	low := sn.floor.seq + 1
	var failed error
	n := sort.Search(int(sn.last.seq-sn.floor.seq), func(i int) bool { //nolint:gosec // a count of positions
		_, p, found, err := sn.firstFrom(it, low+uint64(i)) //nolint:gosec // not negative
		if err != nil {
			failed = err
		}
		return !found || p.time > t
	})
	if failed != nil {
		return 0, failed
	}
	seq, next, found, err := sn.firstFrom(it, low+uint64(n)) //nolint:gosec // not negative
	if err != nil {
		return 0, err
	}
	if found && next.before <= t {
		return seq - 1, nil
	}
	// What lies between is gone and partly later than t: only up to the last kept record is it certain.
	return sn.lastBefore(low + uint64(n)) //nolint:gosec // not negative
}

// firstFrom finds the first kept record at or after a position.
func (sn *snapshot) firstFrom(it *badger.Iterator, from uint64) (seq uint64, p pointer, found bool, err error) {
	for it.Seek(keySeq(kindEvent, from)); it.Valid(); it.Next() {
		seq = seqOf(it.Item().Key())
		err = it.Item().Value(func(b []byte) error {
			p, err = decodePointer(b)
			return err
		})
		if err != nil || p.expires > sn.now {
			return seq, p, err == nil && seq <= sn.last.seq, err
		}
	}
	return 0, p, false, nil
}

// lastBefore finds the position of the last kept record before one, or the floor's.
func (sn *snapshot) lastBefore(seq uint64) (uint64, error) {
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindEvent}, Reverse: true})
	defer it.Close()
	for it.Seek(keySeq(kindEvent, seq-1)); it.Valid(); it.Next() {
		at := seqOf(it.Item().Key())
		if at <= sn.floor.seq {
			break
		}
		kept := false
		err := it.Item().Value(func(b []byte) error {
			p, err := decodePointer(b)
			kept = p.expires > sn.now
			return err
		})
		if err != nil || kept {
			return at, err
		}
	}
	return sn.floor.seq, nil
}

// Channel implements broker.Log.
func (s *Store) Channel(ctx context.Context, ch broker.Channel) (st broker.ChannelState, err error) {
	err = s.snapshot(ctx, func(sn *snapshot) error {
		st, err = sn.channelState(ch)
		return err
	})
	return st, err
}

func (sn *snapshot) channelState(ch broker.Channel) (broker.ChannelState, error) {
	h, found, err := sn.head(ch)
	if !found || err != nil {
		return broker.ChannelState{}, err
	}
	st := broker.ChannelState{Channel: ch, Last: h.counted, Time: h.time}
	newest, err := sn.newest(&h, 1)
	if err != nil || len(newest) == 0 {
		return st, err
	}
	st.Newest = newest[0]
	st.First, err = sn.first(&h)
	return st, err
}

func (sn *snapshot) first(h *headRecord) (uint64, error) {
	name := channelHash(h.channel)
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: keyHash(kindChannel, name)})
	defer it.Close()
	for it.Seek(keyChannel(name, max(h.low, sn.floor.seq)+1)); it.Valid(); it.Next() {
		if en, err := entryOf(it.Item()); err != nil || en.expires > sn.now {
			return en.seq, err
		}
	}
	return 0, nil
}

// Channels implements broker.Log. A page has at most 1,000 channels.
func (s *Store) Channels(ctx context.Context, site broker.SiteID, after broker.ChannelID, most int) (out []broker.ChannelState, err error) {
	if most <= 0 || most > defaultPageEvents {
		most = defaultPageEvents
	}
	err = s.snapshot(ctx, func(sn *snapshot) error {
		for _, id := range sn.names(site, after, most) {
			st, err := sn.channelState(broker.Channel{Site: site, ID: id})
			if err != nil {
				return err
			}
			out = append(out, st)
		}
		return nil
	})
	return out, err
}

func (sn *snapshot) names(site broker.SiteID, after broker.ChannelID, most int) []broker.ChannelID {
	prefix := keySite(kindName, site, "")
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: prefix})
	defer it.Close()
	var out []broker.ChannelID
	for it.Seek(keySite(kindName, site, string(after))); it.Valid() && len(out) < most; it.Next() {
		if id := broker.ChannelID(it.Item().Key()[len(prefix):]); id > after {
			out = append(out, id)
		}
	}
	return out
}

// Revocations implements broker.Log.
func (s *Store) Revocations(ctx context.Context) (out []broker.Revocation, err error) {
	err = s.snapshot(ctx, func(sn *snapshot) error {
		it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindRevocation}})
		defer it.Close()
		for it.Rewind(); it.Valid(); it.Next() {
			err := it.Item().Value(func(b []byte) error {
				r, expires, err := decodeRevocation(b)
				if err == nil && expires > sn.now {
					out = append(out, r)
				}
				return err
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return out, err
}
