package persist

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

const (
	defaultPageEvents = 1000
	defaultPageBytes  = 1 << 20
	// maxReaders bounds the iterators open at once: each pins tables and 25 KiB, and more are not faster.
	maxReaders = 4
)

// snapshot is one reader's view of the store.
type snapshot struct {
	*view
	txn *badger.Txn
	now int64
}

// snapshot runs fn on a snapshot, at most maxReaders at a time. fn must not wait for anything.
func (s *Store) snapshot(ctx context.Context, fn func(*snapshot) error) error {
	select {
	case s.readers <- struct{}{}:
		defer func() { <-s.readers }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if s.closed.Load() {
		return errStopped()
	}
	// The view is taken first: it is durable, and the snapshot holds at least as much.
	v := s.view.Load()
	txn := s.db.NewTransaction(false)
	defer txn.Discard()
	err := fn(&snapshot{view: v, txn: txn, now: s.clock(v.last.time)})
	if _, refused := errors.AsType[*broker.Error](err); err == nil || refused {
		return err
	}
	s.log.LogAttrs(ctx, slog.LevelError, "store could not be read", slog.Any("error", err))
	return broker.Errorf(broker.CodeUnavailable, "the store could not be read; try again")
}

func (sn *snapshot) head(ch broker.Channel) (h headRecord, found bool, err error) {
	found, err = read(sn.txn, keyHash(kindHead, channelHash(ch)), func(b []byte) (err error) {
		h, err = decodeHead(b)
		return err
	})
	// A head may be newer than the view, by a commit that is being announced: nobody has heard of that event yet.
	return h, found, err
}

// event reads the event that a pointer names.
func (sn *snapshot) event(channel hash, seq uint64) (e broker.Event, found bool, err error) {
	item, err := sn.txn.Get(keyChannel(channel, seq))
	if errors.Is(err, badger.ErrKeyNotFound) {
		return e, false, nil
	}
	if err != nil {
		return e, false, err
	}
	return sn.eventOf(item)
}

// eventOf reads an event of a channel's index; found is false if it has expired.
func (sn *snapshot) eventOf(item *badger.Item) (e broker.Event, found bool, err error) {
	b, err := item.ValueCopy(nil)
	if err != nil {
		return e, false, err
	}
	e, en, err := decodeEvent(seqOf(item.Key()), b)
	return e, err == nil && en.expires > sn.now, err
}

// position reads the newest position of the snapshot itself.
func (sn *snapshot) position() (last lastRecord, err error) {
	_, err = read(sn.txn, keyMeta(metaLast), func(b []byte) (err error) {
		last, err = decodeLast(b)
		return err
	})
	return last, err
}

// Range implements broker.Log.
func (s *Store) Range(ctx context.Context, ch broker.Channel, after uint64, limit broker.PageLimit) (page broker.Page, err error) {
	err = s.snapshot(ctx, func(sn *snapshot) error {
		page, err = sn.channelPage(ch, after, withDefaults(limit))
		return err
	})
	return page, err
}

func withDefaults(l broker.PageLimit) broker.PageLimit {
	if l.Events <= 0 {
		l.Events = defaultPageEvents
	}
	if l.Bytes <= 0 {
		l.Bytes = defaultPageBytes
	}
	return l
}

func (sn *snapshot) channelPage(ch broker.Channel, after uint64, limit broker.PageLimit) (page broker.Page, err error) {
	last, err := sn.position()
	if err != nil {
		return page, err
	}
	page.Through = last.seq
	h, found, err := sn.head(ch)
	if !found || err != nil {
		return page, err
	}
	page.Last = h.counted
	name := channelHash(ch)
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: keyHash(kindChannel, name)})
	defer it.Close()
	bytes := 0
	for it.Seek(keyChannel(name, max(after, h.low, sn.floor.seq)+1)); it.Valid(); it.Next() {
		e, found, err := sn.eventOf(it.Item())
		if err != nil {
			return page, err
		}
		if !found || e.Seq > last.seq {
			continue
		}
		if len(page.Events) >= limit.Events || bytes >= limit.Bytes {
			page.More, page.Through = true, page.Events[len(page.Events)-1].Seq
			break
		}
		page.Events = append(page.Events, e)
		bytes += len(e.Data)
	}
	return page, nil
}

// Last implements broker.Log.
func (s *Store) Last(ctx context.Context, ch broker.Channel, n int) (page broker.Page, err error) {
	err = s.snapshot(ctx, func(sn *snapshot) error {
		page, err = sn.lastPage(ch, n)
		return err
	})
	return page, err
}

func (sn *snapshot) lastPage(ch broker.Channel, n int) (page broker.Page, err error) {
	last, err := sn.position()
	if err != nil {
		return page, err
	}
	page.Through = last.seq
	h, found, err := sn.head(ch)
	if !found || err != nil {
		return page, err
	}
	page.Last = h.counted
	seqs, err := sn.newest(&h, n+1)
	if err != nil {
		return page, err
	}
	if page.More = len(seqs) > n; page.More {
		seqs = seqs[:n]
	}
	slices.Reverse(seqs)
	name := channelHash(ch)
	for _, seq := range seqs {
		e, found, err := sn.event(name, seq)
		if err != nil {
			return page, err
		}
		if found {
			page.Events = append(page.Events, e)
		}
	}
	return page, nil
}

// newest lists the positions of a channel's newest n kept events, newest first. It starts at the head and stops at the
// low-water mark, so it does not walk over what was removed.
func (sn *snapshot) newest(h *headRecord, n int) ([]uint64, error) {
	name := channelHash(h.channel)
	low := max(h.low, sn.floor.seq)
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: keyHash(kindChannel, name), Reverse: true})
	defer it.Close()
	var out []uint64
	for it.Seek(keyChannel(name, h.seq)); it.Valid() && len(out) < n; it.Next() {
		en, err := entryOf(it.Item())
		if err != nil || en.seq <= low {
			return out, err
		}
		if en.expires > sn.now {
			out = append(out, en.seq)
		}
	}
	return out, nil
}

// Scan implements broker.Log.
func (s *Store) Scan(ctx context.Context, site broker.SiteID, after uint64, limit broker.PageLimit) (broker.Page, error) {
	return s.readLog(ctx, after, limit, site)
}

// readLog reads records of the log itself: all of them, or the events of one site.
func (s *Store) readLog(ctx context.Context, after uint64, limit broker.PageLimit, site broker.SiteID) (page broker.Page, err error) {
	limit = withDefaults(limit)
	err = s.snapshot(ctx, func(sn *snapshot) error {
		last, err := sn.position()
		if err != nil {
			return err
		}
		page.Through = last.seq
		it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindEvent}})
		defer it.Close()
		bytes := 0
		for it.Seek(keySeq(kindEvent, max(after, sn.floor.seq)+1)); it.Valid(); it.Next() {
			e, wanted, err := sn.logRecord(it.Item(), site)
			if err != nil {
				return err
			}
			if !wanted || e.Seq > last.seq {
				continue
			}
			if len(page.Events) >= limit.Events || bytes >= limit.Bytes {
				page.More, page.Through = true, page.Events[len(page.Events)-1].Seq
				return nil
			}
			page.Events = append(page.Events, e)
			bytes += len(e.Data)
		}
		return nil
	})
	return page, err
}

func (sn *snapshot) logRecord(item *badger.Item, site broker.SiteID) (e broker.Event, wanted bool, err error) {
	seq := seqOf(item.Key())
	var p pointer
	err = item.Value(func(b []byte) (err error) {
		if wanted = site == "" || siteOf(b) == site; wanted {
			p, err = decodePointer(b)
		}
		return err
	})
	if err != nil {
		return e, false, fmt.Errorf("position %d: %w", seq, err)
	}
	if !wanted || p.expires <= sn.now || site != "" && p.revocation != nil {
		return e, false, nil
	}
	if p.revocation != nil {
		return broker.Event{Seq: seq, Time: p.time, Channel: broker.Channel{Site: p.site}, Revocation: p.revocation}, true, nil
	}
	return sn.event(p.channel, seq)
}

// Position implements broker.Log.
func (s *Store) Position(ctx context.Context) (broker.Cursor, error) {
	v := s.view.Load()
	return broker.Cursor{Epoch: v.store.epoch, Seq: v.last.seq}, ctx.Err()
}

// At implements broker.Log. It searches by halves and seeks, so it costs about the same in every log.
func (s *Store) At(ctx context.Context, t time.Time) (seq uint64, known bool, err error) {
	err = s.snapshot(ctx, func(sn *snapshot) error {
		seq, err = sn.at(t.UnixMicro())
		known = t.UnixMicro() >= sn.floorTime(sn.now)
		return err
	})
	return seq, known, err
}
