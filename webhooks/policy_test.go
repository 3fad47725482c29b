package webhooks

import (
	"encoding/base64"
	"net/http"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestJudgement(t *testing.T) {
	for _, c := range []struct {
		name      string
		r         result
		call, job verdict
	}{
		{"answered", result{sent: true, status: 200, json: true}, delivered, delivered},
		{"garbage", result{sent: true, status: 200}, unsure, failed},
		{"redirected", result{sent: true, status: 307, json: true}, unsure, failed},
		{"refused", result{sent: true, status: 422}, rejected, rejected},
		{"gone", result{sent: true, status: 410}, rejected, rejected},
		{"timed out there", result{sent: true, status: 408}, unsure, failed},
		{"too early", result{sent: true, status: 425}, unsure, failed},
		{"too many", result{sent: true, status: 429}, unsure, failed},
		{"broken", result{sent: true, status: 500, json: true}, unsure, failed},
		{"did not run", result{sent: true, status: 503, ranNo: true}, unsent, failed},
		{"no connection", result{}, unsent, failed},
		{"address refused", result{final: true}, forbidden, failed},
		{"reset after sending", result{sent: true}, unsure, failed},
	} {
		if got := judge(KindCall, c.r); got != c.call {
			t.Errorf("%s: call %d, want %d", c.name, got, c.call)
		}
		for _, kind := range []Kind{KindJob, KindNotice} {
			if got := judge(kind, c.r); got != c.job {
				t.Errorf("%s: %s %d, want %d", c.name, kind, got, c.job)
			}
		}
	}
}

func drawStanding(t *rapid.T) (standing, verdict, time.Duration, time.Time, float64) {
	now := time.UnixMicro(1790000000000000)
	s := standing{
		kind: rapid.SampledFrom([]Kind{KindCall, KindJob, KindNotice}).Draw(t, "kind"), tries: rapid.IntRange(1, 40).Draw(t, "tries"),
		idempotent: rapid.Bool().Draw(t, "idempotent"),
		deadline:   now.Add(time.Duration(rapid.IntRange(-5000, 60000).Draw(t, "left")) * time.Millisecond),
	}
	verdicts := []verdict{delivered, rejected, failed}
	if s.kind == KindCall {
		verdicts = []verdict{delivered, rejected, unsent, forbidden, unsure}
		s.tainted = s.idempotent && rapid.Bool().Draw(t, "tainted")
	}
	wait := time.Duration(rapid.IntRange(0, 86400).Draw(t, "retry after")) * time.Second
	return s, rapid.SampledFrom(verdicts).Draw(t, "verdict"), wait, now, rapid.Float64Range(0, 0.9999).Draw(t, "random")
}

func TestRulesNeverSayMoreThanIsProven(t *testing.T) {
	p := plan{DefaultSchedule(), DefaultCallWaits()}
	rapid.Check(t, func(t *rapid.T) {
		s, v, wait, now, random := drawStanding(t)
		next := p.next(s, v, wait, now, random)
		switch {
		case next.kind == stepEnd && next.outcome == OutcomeNotDelivered && (s.tainted || !v.certain()):
			t.Fatal("not_delivered without certainty")
		case next.kind == stepRetry && s.kind == KindCall && !next.due.Before(s.deadline):
			t.Fatal("a call is retried after its deadline")
		case next.kind == stepRetry && v == unsure && !s.idempotent:
			t.Fatal("a call that may have run is retried")
		case next.kind == stepRetry && next.due.Sub(now) < wait:
			t.Fatal("Retry-After is not honoured")
		case next.kind == stepDead && (s.kind == KindCall || s.tries < len(p.jobs)):
			t.Fatal("dead before its time")
		case next.park && s.tries < orderedTries:
			t.Fatal("parked before its tries")
		case (v == delivered || v == rejected) && next.kind != stepEnd:
			t.Fatal("an answer is not the end")
		}
	})
}

func TestRetryAfterForms(t *testing.T) {
	now := time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)
	for header, want := range map[string]time.Duration{
		"": 0, "5": 5 * time.Second, " 7 ": 7 * time.Second, "0": time.Second, "86401": 24 * time.Hour,
		"-1": 0, "1.5": 0, "+3": 0, "5s": 0, "9223372036854775808": 24 * time.Hour, "soon": 0,
		now.Add(time.Minute).Format(http.TimeFormat):    time.Minute,
		now.Add(-time.Minute).Format(http.TimeFormat):   time.Second,
		now.Add(90 * time.Hour).Format(http.TimeFormat): 24 * time.Hour,
		"Thursday, 01-Oct-26 12:00:09 GMT":              9 * time.Second,
		"Thu Oct  1 12:00:09 2026":                      9 * time.Second,
		"Fri, 31 Dec 9999 23:59:59 GMT":                 24 * time.Hour,
	} {
		if got := parseRetryAfter(header, now); got != want {
			t.Errorf("%q: %v, want %v", header, got, want)
		}
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "1", "-1", "999999999999999999999", "Thu, 01 Oct 2026 12:00:00 GMT", "1e9", "\x00"} {
		f.Add(seed)
	}
	now := time.Date(2026, 10, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, header string) {
		if d := parseRetryAfter(header, now); d != 0 && (d < minRetryAfter || d > maxRetryAfter) {
			t.Errorf("%q: %v", header, d)
		}
	})
}

func TestSignatureVector(t *testing.T) {
	secret, err := base64.StdEncoding.DecodeString("Rvede0yHZobj1ixnh8a/TFrxJK9mti4gJS5mrYy4v/o=")
	if err != nil {
		t.Fatal(err)
	}
	got := Sign(secret, "m1", 1790000000, []byte(`{"type":"message.call"}`))
	if want := "v1,t8ANF2IxmE7Jraa4yV5sjTpz5tef3l/xjj93CRcUoEI="; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
