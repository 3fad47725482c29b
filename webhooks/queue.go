package webhooks

import (
	"context"
	"time"

	"backchannel/broker"
)

// How long records are kept after a delivery has ended.
const (
	// OutcomeLife is how long an ended message is remembered under its id.
	OutcomeLife = 24 * time.Hour
	// DeadLife is how long a dead letter can be retried.
	DeadLife = 14 * 24 * time.Hour
)

// Queue is what the dispatcher needs of a store. persist/persisttest is its definition. All methods may be called from
// many goroutines; the dispatcher sees to it that one delivery is changed by one goroutine at a time. What a method
// has stored is durable when it returns nil. CodeStoreFull if space is short or a bound is reached (with the bound in
// the text), CodeUnavailable if the store is closing or in doubt.
type Queue interface {
	// Accept stores d unless its Ref is known; it returns the stored record and whether it was known. d may be
	// waiting, sending (acceptance and first attempt in one commit) or done (an id settled before it arrived).
	Accept(ctx context.Context, d Delivery) (stored Delivery, known bool, err error)

	// Update replaces the record of d.Ref. One that is done is removed OutcomeLife after Ended, a dead one after
	// DeadLife; Seal is erased from both. Updates that finish work succeed also when space is short.
	Update(ctx context.Context, d Delivery) error

	// Get returns the record, or CodeNotFound.
	Get(ctx context.Context, ref Ref) (Delivery, error)

	// Pending calls fn with every delivery that is neither done nor dead, and with calls whose Outcome is Unknown,
	// in the order of acceptance, with all fields but Data, Reply and Log. It is for the start.
	Pending(ctx context.Context, fn func(Delivery) error) error

	// List pages through the records of a site, newest acceptance first.
	List(ctx context.Context, site broker.SiteID, q ListQuery) (page []Delivery, next string, err error)

	// Forget erases Data, Reply, Error, Seal and Log of the ended records of a user; it returns how many there were.
	Forget(ctx context.Context, site broker.SiteID, user string) (int, error)

	// Usage is what is stored now.
	Usage(ctx context.Context) (Usage, error)
}

// ListQuery filters and pages List. Zero fields do not filter.
type ListQuery struct {
	State     State
	Component broker.ComponentID
	// After is the next of the page before.
	After string
	// Limit is at most 1,000; 0 means 100.
	Limit int
}

// Usage counts the records of a queue and the bytes of their data.
type Usage struct {
	Waiting, Sending, Done, Dead int
	// QueueBytes, ReplyBytes, DeadBytes and LogBytes are held against the bounds of the same names.
	QueueBytes, ReplyBytes, DeadBytes, LogBytes int64
}

// Bounds limit what a queue keeps: intake is refused at Queue, of the others the oldest go first. Zero means no bound.
type Bounds struct {
	Queue   int64 // bytes waiting or being sent
	Dead    int64 // bytes of dead letters, without their logs
	Replies int64 // bytes of replies, and of the data of ended messages; the outcome stays
	// DeliveryLog is bytes of the logs of ended deliveries; the rest of the record stays.
	DeliveryLog int64
	// Sites are bounds that hold for one site beside those of all. Their own Sites are not looked at. The map must not
	// be changed once a queue has it.
	Sites map[broker.SiteID]Bounds
}
