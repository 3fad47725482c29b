package persist

import (
	"context"
	"fmt"

	"backchannel/broker"
	"backchannel/webhooks"

	"github.com/dgraph-io/badger/v4"
)

// maxDeliveryBytes is the largest message, or reply with its log, that is kept.
const maxDeliveryBytes = 1<<20 - 8<<10

// Accept implements webhooks.Queue. Data beyond 1 MiB is CodeTooLarge.
func (s *Store) Accept(ctx context.Context, d webhooks.Delivery) (webhooks.Delivery, bool, error) {
	body := encodeBody(&d)
	if err := checkDelivery(&d, body.b); err != nil {
		return webhooks.Delivery{}, false, err
	}
	var stored webhooks.Delivery
	var known bool
	err := s.submit(ctx, &request{entries: 14, bytes: len(d.Data) + len(body.b) + 4*overhead, stage: func(g *group) (err error) {
		stored, known, err = g.accept(&d, body)
		return err
	}})
	if err != nil {
		return webhooks.Delivery{}, false, err
	}
	return stored, known, nil
}

func checkDelivery(d *webhooks.Delivery, body []byte) error {
	if len(d.Data) > maxDeliveryBytes || len(body) > maxDeliveryBytes {
		return broker.Errorf(broker.CodeTooLarge, "the delivery has %d bytes of data and %d of reply and log; the store takes at most %d of each",
			len(d.Data), len(body), maxDeliveryBytes)
	}
	return nil
}

func (g *group) accept(d *webhooks.Delivery, body bodies) (webhooks.Delivery, bool, error) {
	name := refHash(d.Ref)
	old, err := g.delivery(name)
	if err != nil {
		return webhooks.Delivery{}, false, err
	}
	if old != nil && !old.over(g.now) {
		return old.Delivery, true, loadBodies(g.txn, name, old)
	}
	r := &deliveryRecord{Delivery: *d, dataBytes: int64(len(d.Data))}
	r.measure(body)
	if err := g.admitDelivery(r); err != nil {
		return webhooks.Delivery{}, false, err
	}
	if old != nil {
		if err := g.drop(name, old); err != nil {
			return webhooks.Delivery{}, false, err
		}
	}
	g.c.state.last.accepted++
	g.last = true
	r.number = g.c.state.last.accepted
	r.settle(g.now)
	if len(d.Data) > 0 {
		if err := g.set(keyHash(kindData, name), append([]byte{version}, d.Data...), never); err != nil {
			return webhooks.Delivery{}, false, err
		}
	}
	if err := g.set(keyNewest(r.Site, r.number), name[:], never); err != nil {
		return webhooks.Delivery{}, false, err
	}
	return r.Delivery, false, g.put(name, nil, r, body)
}

// admitDelivery refuses what the disk or the bound on the queue has no room for.
func (g *group) admitDelivery(r *deliveryRecord) error {
	if err := g.c.s.space.admit(0); err != nil {
		return err
	}
	if r.class() != classQueue {
		return nil
	}
	bounds := g.c.s.limits().bounds
	if bound, used := bounds.Queue, g.c.state.usage.bytes[classQueue]; bound > 0 && used+r.weight() > bound {
		return broker.Errorf(broker.CodeStoreFull,
			"the queue holds %d of %d bytes ([limits] queue); try again when deliveries have ended", used, bound)
	}
	if bound, used := bounds.Sites[r.Site].Queue, g.c.state.siteBytes(r.Site, classQueue); bound > 0 && used+r.weight() > bound {
		return broker.Errorf(broker.CodeStoreFull,
			"the queue of site %s holds %d of %d bytes ([site.limits] queue); try again when deliveries have ended", r.Site, used, bound)
	}
	return nil
}

// Update implements webhooks.Queue. The message stays as it was accepted: Data is neither written again nor lost, should
// d come from Pending. An unknown Ref is CodeNotFound.
func (s *Store) Update(ctx context.Context, d webhooks.Delivery) error {
	body := encodeBody(&d)
	if err := checkDelivery(&d, body.b); err != nil {
		return err
	}
	return s.submit(ctx, &request{entries: 12, bytes: len(body.b) + 4*overhead, stage: func(g *group) error {
		return g.update(&d, body)
	}})
}

func (g *group) update(d *webhooks.Delivery, body bodies) error {
	if err := g.c.s.space.admitEssential(); err != nil {
		return err
	}
	name := refHash(d.Ref)
	old, err := g.delivery(name)
	if err != nil {
		return err
	}
	if old == nil || old.over(g.now) {
		return notFound(d.Ref)
	}
	r := &deliveryRecord{Delivery: *d, number: old.number, dataBytes: old.dataBytes}
	r.measure(body)
	r.Message = old.Message
	r.settle(g.now)
	return g.put(name, old, r, body)
}

func notFound(ref webhooks.Ref) error {
	return broker.Errorf(broker.CodeNotFound, "no delivery %q is known", string(ref.ID))
}

// delivery reads a record, those of this group included; nil if there is none.
func (g *group) delivery(name hash) (*deliveryRecord, error) { return readDelivery(g.txn, name) }

func readDelivery(txn *badger.Txn, name hash) (r *deliveryRecord, err error) {
	_, err = read(txn, keyHash(kindDelivery, name), func(b []byte) (err error) {
		r, err = decodeDelivery(b)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read delivery: %w", err)
	}
	return r, nil
}

// loadBodies fills in what readDelivery leaves out.
func loadBodies(txn *badger.Txn, name hash, r *deliveryRecord) error {
	if r.dataBytes > 0 {
		_, err := read(txn, keyHash(kindData, name), func(b []byte) error {
			r.Data = append([]byte(nil), b[1:]...)
			return nil
		})
		if err != nil {
			return fmt.Errorf("read data of delivery: %w", err)
		}
	}
	return loadBody(txn, name, r)
}

// loadBody fills in reply and log alone.
func loadBody(txn *badger.Txn, name hash, r *deliveryRecord) error {
	if r.bodyBytes == 0 {
		return nil
	}
	_, err := read(txn, keyHash(kindBody, name), func(b []byte) error {
		return decodeBody(append([]byte(nil), b...), &r.Delivery)
	})
	if err != nil {
		return fmt.Errorf("read reply of delivery: %w", err)
	}
	return nil
}

// Get implements webhooks.Queue.
func (s *Store) Get(ctx context.Context, ref webhooks.Ref) (d webhooks.Delivery, err error) {
	err = s.snapshot(ctx, func(sn *snapshot) error {
		name := refHash(ref)
		r, err := readDelivery(sn.txn, name)
		if err != nil {
			return err
		}
		if r == nil || r.over(sn.now) {
			return notFound(ref)
		}
		err = loadBodies(sn.txn, name, r)
		d = r.Delivery
		return err
	})
	return d, err
}

// Usage implements webhooks.Queue.
func (s *Store) Usage(ctx context.Context) (webhooks.Usage, error) {
	u := s.view.Load().usage
	return webhooks.Usage{
		Waiting: int(u.waiting), Sending: int(u.sending), Done: int(u.done), Dead: int(u.dead),
		QueueBytes: u.bytes[classQueue], ReplyBytes: u.bytes[classDone], DeadBytes: u.bytes[classDead],
		LogBytes: u.bytes[classLog],
	}, ctx.Err()
}
