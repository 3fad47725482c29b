package handlers

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"backchannel/broker"
)

// stored lists what the log holds of moodle.
func (d *desk) stored(t testing.TB) []broker.Event {
	t.Helper()
	page, err := d.store.Scan(context.Background(), "moodle", 0, broker.PageLimit{Events: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	return page.Events
}

func TestAPublishIsStoredAsItWasSentAndAnsweredWithItsPosition(t *testing.T) {
	d := newDesk(t)
	var got published
	d.ok(t, http.MethodPost, "/v1/publish", `{"channel":"c1","data":{ "a": "<&>\u2028", "n": 1.0 },"type":"stage","id":"once"}`).json(t, &got)
	events := d.stored(t)
	if len(events) != 1 || got.ID != d.cursor(1) || got.Repeated {
		t.Fatalf("got %+v, stored %+v", got, events)
	}
	e := events[0]
	if e.Channel.ID != "c1" || e.Type != "stage" || string(e.Data) != `{"a":"<&>\u2028","n":1.0}` || !e.Counted {
		t.Fatalf("stored %+v with %s", e, e.Data)
	}
	d.ok(t, http.MethodPost, "/v1/publish", `{"channel":"c1","data":2,"id":"once"}`).json(t, &got)
	if got.ID != d.cursor(1) || !got.Repeated || len(d.stored(t)) != 1 {
		t.Fatalf("a repeat got %+v", got)
	}
}

func TestChannelsAreNamedInFourWays(t *testing.T) {
	d := newDesk(t)
	for _, by := range []string{
		`"channel":"aMaoIHJEsfEIjo_6ak5A8Q"`,
		`"channel":{"context":"42","component":"mod_kahoodle","area":"game","item":"7","details":""}`,
		`"user":"5"`,
		`"session":"s1"`,
	} {
		d.ok(t, http.MethodPost, "/v1/publish", `{`+by+`,"data":1}`)
	}
	session, err := broker.SessionChannel(d.sites.Get("moodle").Salt, "s1")
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range d.stored(t) {
		if want := []broker.ChannelID{vectorHash, vectorHash, "0FeQXGSKMPqt8YQFNAoqoQ", session}[i]; e.Channel.ID != want {
			t.Errorf("event %d went to %s, want %s", i, e.Channel.ID, want)
		}
	}
}

func TestABatchIsOneCommitAndBadEventsDoNotTakeTheOthersWithThem(t *testing.T) {
	d := newDesk(t)
	var got struct {
		Results []struct {
			ID     string
			Status int
			Code   broker.Code
			Detail string
		}
	}
	d.ok(t, http.MethodPost, "/v1/publish", `{"events":[{"channel":"c1","data":1},{"channel":"c\n1","data":2},{"channel":"c1","data":3,"typ":"x"},7,{"channel":"c2","data":4}]}`).json(t, &got)
	if len(got.Results) != 5 || d.log.commits != 1 {
		t.Fatalf("%d results in %d commits", len(got.Results), d.log.commits)
	}
	for i, want := range []string{d.cursor(1), "", "", "", d.cursor(2)} {
		r := got.Results[i]
		if r.ID != want || want == "" && (r.Status != 400 || r.Code != broker.CodeBadRequest || r.Detail == "") {
			t.Errorf("event %d: %+v, want %q", i, r, want)
		}
	}
	if !strings.Contains(got.Results[2].Detail, `"typ"`) {
		t.Errorf("the unknown member is not named: %s", got.Results[2].Detail)
	}
	if events := d.stored(t); len(events) != 2 || string(events[0].Data) != "1" || string(events[1].Data) != "4" {
		t.Errorf("stored %+v", events)
	}
}

func TestABatchHoldsAThousandEventsAndNoMore(t *testing.T) {
	d := newDesk(t)
	batch := func(n int) string {
		return `{"events":[` + strings.TrimSuffix(strings.Repeat(`{"channel":"c1","data":1},`, n), ",") + `]}`
	}
	d.server(http.MethodPost, "/v1/publish", batch(1001)).want(t, 413, broker.CodeTooLarge)
	if n := len(d.stored(t)); n != 0 {
		t.Fatalf("%d events were stored of a batch that was refused", n)
	}
	d.ok(t, http.MethodPost, "/v1/publish", batch(1000))
	if n := len(d.stored(t)); n != 1000 {
		t.Fatalf("%d events were stored, want 1000", n)
	}
	d.ok(t, http.MethodPost, "/v1/publish", `{"events":[]}`)
}

func TestWrongPublishesAreRefusedClearlyAndStoreNothing(t *testing.T) {
	d := newDesk(t)
	for body, want := range map[string]string{
		``:                                                   "not a JSON object",
		`[]`:                                                 "not a JSON object",
		`null`:                                               "not a JSON object",
		`{"channel":"c1","data":1`:                           "not a whole JSON object",
		`{"channel":"c1","data":1}x`:                         "goes on after",
		`{"channel":"c1","data":1}{}`:                        "goes on after",
		`{"channel":"c1","data":tru}`:                        "is wrong",
		`{"channel":"c1"}`:                                   "data: missing",
		`{"data":1}`:                                         "exactly one of channel, user and session",
		`{"channel":"c1","user":"5","data":1}`:               "exactly one of channel, user and session",
		`{"user":"","data":1}`:                               "user: want 1 to 255",
		`{"user":5,"data":1}`:                                `"user"`,
		`{"channel":"","data":1}`:                            "want 1 to 64",
		`{"channel":"a b","data":1}`:                         "character 2",
		`{"channel":"a\u0000b","data":1}`:                    "character 2",
		`{"channel":["a"],"data":1}`:                         "channel: want a name",
		`{"channel":7,"data":1}`:                             "channel: want a name",
		`{"channel":{"context":"1"},"data":1}`:               "component is missing",
		`{"channel":{"contexts":"1"},"data":1}`:              "channel: want a name",
		`{"channel":"c1","data":1,"tl":5}`:                   `unknown member "tl"`,
		`{"channel":"c1","data":1,"ttl":-1}`:                 "ttl: want 0 to 604800",
		`{"channel":"c1","data":1,"ttl":1e300}`:              "ttl: want 0 to 604800",
		`{"channel":"c1","data":1,"ttl":1e999}`:              "ttl",
		`{"channel":"c1","data":1,"type":"a\nid: 9"}`:        "character 2",
		`{"channel":"c1","data":1,"type":"a\rb"}`:            "character 2",
		`{"channel":"c1","data":1,"type":"a\u0000"}`:         "character 2",
		`{"channel":"c1","data":1,"type":"hello"}`:           "reserved",
		`{"channel":"c1","data":1,"type":"message"}`:         "reserved",
		`{"channel":"c1","data":1,"id":"a\nb"}`:              "control character",
		`{"channel":"c1","data":1,"id":"a\u0000b"}`:          "control character",
		`{"events":[],"data":1}`:                             "nothing may stand beside",
		`{"events":{}}`:                                      `"events"`,
		"{\"channel\":\"c1\",\"data\":\"\xff\"}":             "not valid UTF-8",
		`{"channel":"c1","data":1,"type":"` + long(65):       "",
		`{"channel":"c1","data":1,"id":"` + long(257) + `"}`: "at most 256 bytes",
	} {
		t.Run(body, func(t *testing.T) {
			r := d.server(http.MethodPost, "/v1/publish", body)
			r.want(t, 400, broker.CodeBadRequest)
			if !strings.Contains(r.body, strings.ReplaceAll(want, `"`, `\"`)) {
				t.Errorf("got %s, want it to say %s", r.body, want)
			}
		})
	}
	if n := len(d.stored(t)); n != 0 {
		t.Fatalf("%d events were stored", n)
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func TestLimitsOfSizeStandInTheAnswer(t *testing.T) {
	d := newDesk(t)
	r := d.server(http.MethodPost, "/v1/publish", `{"channel":"c1","data":"`+long(256<<10)+`"}`)
	r.want(t, 413, broker.CodeTooLarge)
	if !strings.Contains(r.body, "262144") {
		t.Errorf("the limit of an event is not in %s", r.body)
	}
	r = d.server(http.MethodPost, "/v1/publish", `{"channel":"c1","data":"`+long(1<<20)+`"}`)
	r.want(t, 413, broker.CodeTooLarge)
	if !strings.Contains(r.body, "1048576") {
		t.Errorf("the limit of a body is not in %s", r.body)
	}
}

func TestWhatTheStoreRefusesIsAnsweredWithoutItsText(t *testing.T) {
	d := newDesk(t)
	d.log.err = broker.Errorf(broker.CodeStoreFull, "less than 1 GiB is free")
	r := d.server(http.MethodPost, "/v1/publish", `{"channel":"c1","data":1}`)
	r.want(t, 503, broker.CodeStoreFull)
	if r.header.Get("Retry-After") == "" {
		t.Error("503 without Retry-After")
	}
	d.log.err = fmt.Errorf("pread /secret/path: input/output error")
	r = d.server(http.MethodPost, "/v1/publish", `{"channel":"c1","data":1}`)
	r.want(t, 500, broker.CodeInternal)
	if strings.Contains(r.body, "pread") || !strings.Contains(d.logged.String(), "pread") {
		t.Errorf("a fault belongs into the log and not into the answer: %s", r.body)
	}
}

func TestARequestThatIsCutShortIsNeverAnsweredWithSuccess(t *testing.T) {
	d := newDesk(t)
	d.log.err = fmt.Errorf("append: %w", context.Canceled)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := httptest.NewRequest(http.MethodPost, "/v1/publish", strings.NewReader(`{"channel":"c1","data":1}`)).WithContext(ctx)
	exchange(d.Public(), r, "Authorization", "Bearer "+d.key("moodle", 0).Bearer("moodle")).want(t, 503, broker.CodeUnavailable)
}

// FuzzPublish looks for bodies that panic, or that are refused and stored nevertheless.
func FuzzPublish(f *testing.F) {
	for _, s := range []string{
		`{"channel":"c1","data":1}`, `{"events":[{"channel":"c1","data":1},3]}`, `{"user":"5","data":null,"ttl":0.5}`,
		`{"channel":{"context":"","component":"","area":"","item":"","details":""},"data":[]}`, `{"events":null}`, "{}\x00",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		d := newDesk(t)
		r := d.server(http.MethodPost, "/v1/publish", body)
		switch r.status {
		case http.StatusOK:
		case http.StatusBadRequest, http.StatusRequestEntityTooLarge:
			if len(d.stored(t)) > 0 {
				t.Fatalf("refused and stored: %s", r.body)
			}
		default:
			t.Fatalf("got %d %s", r.status, r.body)
		}
	})
}
