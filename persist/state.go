package persist

import (
	"errors"
	"fmt"
	"sort"

	"backchannel/broker"

	"github.com/dgraph-io/badger/v4"
)

const (
	bucketSpan = 1024
	// maxHeads bounds the heads of channels in memory; at about 300 bytes each they take 10 MiB.
	maxHeads = 32768
)

// state is what the committer knows without reading. It belongs to the committer, is changed while a group is staged,
// and is read again from the store if the group fails.
type state struct {
	store   storeRecord
	last    lastRecord
	floor   position
	ages    []regime
	buckets []*bucket // by id
	total   int64     // bytes in buckets
	heads   map[broker.Channel]*head
	usage   usage
	sites   map[broker.SiteID]*siteUsage // that have any deliveries
}

// siteUsage is what a site has of each class.
type siteUsage struct {
	site  broker.SiteID
	bytes [classes]int64
	dirty bool
}

// head is a channel's head in memory.
type head struct {
	headRecord
	hash   hash
	dirty  bool
	oldest []entry // the oldest events not removed yet, as far as they were read
}

// loadState reads the counters: a few records, and one for 1,024 events.
func loadState(db *badger.DB) (*state, error) {
	st := &state{heads: map[broker.Channel]*head{}, sites: map[broker.SiteID]*siteUsage{}}
	err := db.View(func(txn *badger.Txn) error {
		for _, r := range []struct {
			name   string
			decode func([]byte) error
		}{
			{metaStore, func(b []byte) (err error) { st.store, err = decodeStore(b); return err }},
			{metaLast, func(b []byte) (err error) { st.last, err = decodeLast(b); return err }},
			{metaFloor, func(b []byte) (err error) { st.floor, err = decodePosition(b); return err }},
			{metaAges, func(b []byte) (err error) { st.ages, err = decodeAges(b); return err }},
			{metaUsage, func(b []byte) (err error) { st.usage, err = decodeUsage(b); return err }},
		} {
			if _, err := read(txn, keyMeta(r.name), r.decode); err != nil {
				return fmt.Errorf("read %s: %w", r.name, err)
			}
		}
		if err := st.loadSites(txn); err != nil {
			return err
		}
		return st.loadBuckets(txn)
	})
	return st, err
}

func (st *state) loadSites(txn *badger.Txn) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindUsage}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		u := &siteUsage{site: broker.SiteID(it.Item().Key()[1:])}
		err := it.Item().Value(func(rec []byte) (err error) {
			u.bytes, err = decodeSiteUsage(rec)
			return err
		})
		if err != nil {
			return fmt.Errorf("read usage of site %s: %w", u.site, err)
		}
		st.sites[u.site] = u
	}
	return nil
}

func (st *state) loadBuckets(txn *badger.Txn) error {
	it := txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindBucket}})
	defer it.Close()
	for it.Rewind(); it.Valid(); it.Next() {
		id := seqOf(it.Item().Key())
		err := it.Item().Value(func(rec []byte) error {
			b, err := decodeBucket(id, rec)
			st.buckets = append(st.buckets, &b)
			st.total += b.bytes + b.shortBytes
			return err
		})
		if err != nil {
			return fmt.Errorf("read bucket %d: %w", id, err)
		}
	}
	return nil
}

// read decodes the record of a key; found is false if there is none. The bytes are valid only inside decode.
func read(txn *badger.Txn, key []byte, decode func([]byte) error) (found bool, err error) {
	item, err := txn.Get(key)
	if errors.Is(err, badger.ErrKeyNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, item.Value(decode)
}

// bucketOf finds the bucket of a position, or nil.
func (st *state) bucketOf(seq uint64) *bucket {
	id := seq / bucketSpan
	i := sort.Search(len(st.buckets), func(i int) bool { return st.buckets[i].id >= id })
	if i < len(st.buckets) && st.buckets[i].id == id {
		return st.buckets[i]
	}
	return nil
}

// siteBytes is what a site has of a class.
func (st *state) siteBytes(site broker.SiteID, c class) int64 {
	if u := st.sites[site]; u != nil {
		return u.bytes[c]
	}
	return 0
}

// spareHeads drops some heads when there are too many; they are read again when needed.
func (st *state) spareHeads() {
	if len(st.heads) < maxHeads {
		return
	}
	n := 0
	for ch, h := range st.heads {
		if !h.dirty {
			delete(st.heads, ch)
			n++
		}
		if n > maxHeads/8 {
			return
		}
	}
}
