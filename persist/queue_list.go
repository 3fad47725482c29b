package persist

import (
	"context"
	"fmt"
	"strconv"

	"backchannel/broker"
	"backchannel/webhooks"

	"github.com/dgraph-io/badger/v4"
)

const (
	defaultListLimit = 100
	maxListLimit     = 1000
	// A page of List also ends after so many records were looked at, or so many bytes found: next says where to go on.
	maxListLooked = 10_000
	maxListBytes  = 4 << 20
	pendingAtOnce = 500
)

// Pending implements webhooks.Queue. fn is called with no snapshot held.
func (s *Store) Pending(ctx context.Context, fn func(webhooks.Delivery) error) error {
	after := uint64(0)
	for {
		page, last, err := s.pendingPage(ctx, after)
		if err != nil {
			return err
		}
		for i := range page {
			if err := fn(page[i].Delivery); err != nil {
				return err
			}
		}
		if last == after {
			return nil
		}
		after = last
	}
}

func (s *Store) pendingPage(ctx context.Context, after uint64) (page []*deliveryRecord, last uint64, err error) {
	last = after
	err = s.snapshot(ctx, func(sn *snapshot) error {
		it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: []byte{kindPending}})
		defer it.Close()
		for it.Seek(keySeq(kindPending, after+1)); it.Valid() && len(page) < pendingAtOnce; it.Next() {
			last = seqOf(it.Item().Key())
			name, err := nameOf(it.Item())
			if err != nil {
				return err
			}
			r, err := readDelivery(sn.txn, name)
			if err != nil {
				return err
			}
			if r != nil && r.pending() && !r.over(sn.now) {
				page = append(page, r)
			}
		}
		return nil
	})
	return page, last, err
}

// List implements webhooks.Queue. A page may hold fewer than Limit although next is set: it ends after 10,000 records
// looked at, or 4 MiB found.
func (s *Store) List(ctx context.Context, site broker.SiteID, q webhooks.ListQuery) (page []webhooks.Delivery, next string, err error) {
	before := ^uint64(0)
	if q.After != "" {
		if before, err = strconv.ParseUint(q.After, 10, 63); err != nil {
			return nil, "", broker.Errorf(broker.CodeBadRequest, "after: want the next of the page before")
		}
	}
	if q.Limit <= 0 {
		q.Limit = defaultListLimit
	}
	q.Limit = min(q.Limit, maxListLimit)
	err = s.snapshot(ctx, func(sn *snapshot) error {
		page, next, err = sn.list(site, q, before)
		return err
	})
	return page, next, err
}

func (sn *snapshot) list(site broker.SiteID, q webhooks.ListQuery, before uint64) (page []webhooks.Delivery, next string, err error) {
	it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: keySite(kindSite, site, "")})
	defer it.Close()
	looked, bytes, last := 0, int64(0), before
	for it.Seek(keyNewest(site, before-1)); it.Valid(); it.Next() {
		number := ^seqOf(it.Item().Key())
		if len(page) >= q.Limit || looked >= maxListLooked || bytes >= maxListBytes {
			return page, strconv.FormatUint(last, 10), nil
		}
		looked++
		last = number
		name, err := nameOf(it.Item())
		if err != nil {
			return nil, "", err
		}
		r, err := readDelivery(sn.txn, name)
		if err != nil {
			return nil, "", fmt.Errorf("list deliveries: %w", err)
		}
		if r == nil || r.over(sn.now) || !listed(r, q) {
			continue
		}
		if err := loadBodies(sn.txn, name, r); err != nil {
			return nil, "", err
		}
		page = append(page, r.Delivery)
		bytes += r.dataBytes + r.bodyBytes
	}
	return page, "", nil
}

func listed(r *deliveryRecord, q webhooks.ListQuery) bool {
	return (q.State == "" || r.State == q.State) && (q.Component == "" || r.Component == q.Component)
}

// Forget implements webhooks.Queue.
func (s *Store) Forget(ctx context.Context, site broker.SiteID, user string) (int, error) {
	n := 0
	err := s.submit(ctx, &request{chore: func(c *committer) error {
		for before := ^uint64(0); before > 0; {
			names, last, err := s.userPage(ctx, site, user, before)
			if err != nil {
				return err
			}
			if err := c.eraseAll(names); err != nil {
				return err
			}
			n += len(names)
			before = last
		}
		return nil
	}})
	if err != nil {
		return 0, err
	}
	return n, nil
}

// userPage finds some ended deliveries of a user; last is 0 when there are no more.
func (s *Store) userPage(ctx context.Context, site broker.SiteID, user string, before uint64) (names []hash, last uint64, err error) {
	err = s.snapshot(ctx, func(sn *snapshot) error {
		it := sn.txn.NewIterator(badger.IteratorOptions{Prefix: keySite(kindSite, site, "")})
		defer it.Close()
		for it.Seek(keyNewest(site, before-1)); it.Valid(); it.Next() {
			if len(names) >= sweepAtOnce {
				return nil
			}
			last = ^seqOf(it.Item().Key())
			name, err := nameOf(it.Item())
			if err != nil {
				return err
			}
			r, err := readDelivery(sn.txn, name)
			if err != nil {
				return err
			}
			if r != nil && r.User == user && r.class() != classQueue && !r.over(sn.now) {
				names = append(names, name)
			}
		}
		last = 0
		return nil
	})
	return names, last, err
}

func (c *committer) eraseAll(names []hash) error {
	if len(names) == 0 {
		return nil
	}
	return c.transact(func(g *group) error {
		for _, name := range names {
			r, err := g.delivery(name)
			if err != nil {
				return err
			}
			if r == nil {
				continue
			}
			if err := g.erase(name, r, parts{replies: true, log: true}); err != nil {
				return err
			}
		}
		return nil
	})
}
