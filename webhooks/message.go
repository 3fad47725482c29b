package webhooks

import (
	"encoding/json"
	"time"

	"backchannel/broker"
)

// Kind says whether somebody waits for a delivery.
type Kind string

// A call has a page waiting and never runs after its deadline; a job is retried for days; a notice is what the broker
// itself tells a component and is treated as a job.
const (
	KindCall   Kind = "call"
	KindJob    Kind = "job"
	KindNotice Kind = "notice"
)

// Type is the "type" member of a webhook's body.
type Type string

// The types of the contract.
const (
	TypeCall            Type = "message.call"
	TypeJob             Type = "message.job"
	TypeChannelOccupied Type = "channel.occupied"
	TypeChannelVacated  Type = "channel.vacated"
	TypeMemberJoined    Type = "member.joined"
	TypeMemberLeft      Type = "member.left"
	TypeEndpointTest    Type = "endpoint.test"
	TypeEndpointFailing Type = "endpoint.failing"
)

// ID names a delivery inside a site: the UUID of the page for a message, in lower case; the broker's own for a notice.
// It is the webhook-id of every attempt, so a receiver can recognise repeats.
type ID string

// Ref names a delivery in the whole broker.
type Ref struct {
	Site broker.SiteID
	ID   ID
}

// Message is what a component is to be told. It never changes once accepted.
type Message struct {
	Ref
	Component broker.ComponentID
	Kind      Kind
	Type      Type
	// Caller is broker.Grant.Caller of the sender, "" for a notice. Only the same caller may ask for the outcome.
	Caller string
	// Order is what is kept in order per component: the caller of a message, the channel of a notice.
	Order string
	// Accepted is the broker's time of acceptance, the body's "time".
	Accepted time.Time
	// Deadline of a call; zero otherwise.
	Deadline time.Time
	// User, Session, Seal, Channel and Ref go into the body as they are. Seal is never logged and is erased from
	// the store when the delivery has ended.
	User, Session, Seal string
	Channel             broker.ChannelID
	ChannelRef          string
	Data                json.RawMessage // compact JSON, nil for none
}

// State is where a delivery stands.
type State string

// A delivery is waiting until its first attempt is stored, sending while an attempt may be on the wire, and waiting
// again between attempts (Attempts > 0 then). It ends done (Outcome says how) or, if a job or notice ran out of
// tries, dead.
const (
	StateWaiting State = "waiting"
	StateSending State = "sending"
	StateDone    State = "done"
	StateDead    State = "dead"
)

// Outcome is what a page may be told of a message.
type Outcome string

// The outcomes of the contract. Delivered, Rejected and NotDelivered never change once stored; Unknown may become one
// of the first two. Pending and Queued are answers, never stored.
const (
	OutcomeNone         Outcome = ""
	OutcomeDelivered    Outcome = "delivered"
	OutcomeRejected     Outcome = "rejected"
	OutcomeNotDelivered Outcome = "not_delivered"
	OutcomeUnknown      Outcome = "unknown"
	OutcomePending      Outcome = "pending"
	OutcomeQueued       Outcome = "queued"
)

// Final tells whether o can never change.
func (o Outcome) Final() bool {
	return o == OutcomeDelivered || o == OutcomeRejected || o == OutcomeNotDelivered
}

// Attempt is one try as the delivery log keeps it. Reasons are sentences for an admin.
type Attempt struct {
	Number   int           `json:"number"`
	Started  time.Time     `json:"started"`
	Duration time.Duration `json:"duration"` // ns
	URL      string        `json:"url"`
	Status   int           `json:"status,omitempty"` // HTTP status, 0 if none came
	Error    string        `json:"error,omitempty"`
	// Request and Response are redacted, at most 16 KiB each (512 bytes of what is not JSON).
	Request  string `json:"request,omitempty"`
	Response string `json:"response,omitempty"`
}

// Delivery is a message on its way: the record of the queue.
type Delivery struct {
	Message
	State State
	// Outcome is set when State is done; for a call it may be Unknown while State is still sending.
	Outcome Outcome
	// Attempts counts those ever stored; Log holds the newest few.
	Attempts int
	// RetriedAfter is how many attempts there had been when a dead or rejected delivery was last put back by hand:
	// its schedule counts from there.
	RetriedAfter int
	Log          []Attempt
	// Due is when the next attempt may start, while waiting.
	Due time.Time
	// Ended is when State became done or dead; what is kept of the record ends with it.
	Ended time.Time
	// Reply is the component's JSON (delivered), Error its JSON or {"status":n} (rejected).
	Reply, Error json.RawMessage
	// Reason says in a sentence why a delivery is where it is, for admins and for not_delivered.
	Reason string
	// Settled marks a not_delivered that the page asked for: there may be no message under this id at all.
	Settled bool
}
