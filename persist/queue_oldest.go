package persist

import (
	"bytes"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

// oldest merges the indexes of several sites into one by the time of the end. It has one iterator, which it moves from
// site to site; in most brokers there are few.
type oldest struct {
	it    *badger.Iterator
	index class
	until int64
	heads []endedHead
}

// endedHead is the next of a site.
type endedHead struct {
	site broker.SiteID
	key  []byte
	at   int64
}

// endedNames lists the oldest ended deliveries that a sweep is to look at, sweepAtOnce at most.
func (s *Store) endedNames(w sweep) (names []hash, err error) {
	err = s.db.View(func(txn *badger.Txn) error {
		it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindEnded, byte(w.index)}})
		defer it.Close()
		o := &oldest{it: it, index: w.index, until: w.until}
		for _, site := range w.sites {
			if at, ok := o.seek(site, prefixEnded(w.index, site)); ok {
				o.push(site, at)
			}
		}
		for len(names) < sweepAtOnce && len(o.heads) > 0 {
			if names, err = o.take(names); err != nil {
				return err
			}
		}
		return nil
	})
	return names, err
}

// seek finds the first delivery of a site from a key on.
func (o *oldest) seek(site broker.SiteID, key []byte) (at int64, ok bool) {
	o.it.Seek(key)
	return o.here(site)
}

// here tells whether the iterator stands at a delivery of a site that ended in time.
func (o *oldest) here(site broker.SiteID) (at int64, ok bool) {
	if !o.it.Valid() || !bytes.HasPrefix(o.it.Item().Key(), prefixEnded(o.index, site)) {
		return 0, false
	}
	at = endedAt(o.it.Item().Key())
	return at, at <= o.until
}

func (o *oldest) push(site broker.SiteID, at int64) {
	o.heads = append(o.heads, endedHead{site, o.it.Item().KeyCopy(nil), at})
}

// take appends those of the site that is first, as long as no other comes before.
func (o *oldest) take(names []hash) ([]hash, error) {
	first, second := 0, o.until
	for i, h := range o.heads[1:] {
		if h.at < o.heads[first].at {
			first = i + 1
		}
	}
	for i, h := range o.heads {
		if i != first {
			second = min(second, h.at)
		}
	}
	head := o.heads[first]
	o.heads = append(o.heads[:first], o.heads[first+1:]...)
	at, ok := o.seek(head.site, head.key)
	for ; ok && at <= second && len(names) < sweepAtOnce; at, ok = o.here(head.site) {
		name, err := nameOf(o.it.Item())
		if err != nil {
			return names, err
		}
		names = append(names, name)
		o.it.Next()
	}
	if ok {
		o.push(head.site, at)
	}
	return names, nil
}
