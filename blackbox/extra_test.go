package blackbox_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestStreamsAreToldDifferentTimesToComeBack(t *testing.T) {
	c := start(t)
	all := map[int]bool{}
	for range 10 {
		s := c.open(t, map[string]any{"grants": []string{c.s.hears(c.s.hash("a"))}})
		s.hello()
		s.mu.Lock()
		all[s.retry] = true
		s.mu.Unlock()
	}
	if len(all) < 5 || all[0] {
		t.Errorf("ten streams were told %v ms", all)
	}
}

func TestBodiesMayBePlainTextSoThatNoPreflightIsNeeded(t *testing.T) {
	c, _ := withReceiver(t, func(w http.ResponseWriter, _ call) { answerJSON(w, 200, 1) })
	plain := []string{"Content-Type", "text/plain;charset=UTF-8", "Origin", "https://school.example"}
	g := c.s.grant([]entry{{"h": c.s.hash("a")}}, func(g claims) { g["send"], g["sub"], g["sid"] = []string{"mod_test"}, "9", "s9" })
	h := c.open(t, map[string]any{"grants": []string{g}}, plain...).hello()
	id := newUUID()
	for path, body := range map[string]map[string]any{
		"/v1/poll":                              {"grants": []string{g}},
		"/v1/messages":                          {"grant": g, "id": id, "component": "mod_test", "kind": "job", "data": 1},
		"/v1/streams/" + h.Stream + "/channels": {"resume": h.Resume, "add": []map[string]any{{"grant": c.s.mates(entry{"h": c.s.hash("b")})}}},
	} {
		if a := c.page(t, path, body, plain...); !a.ok() || a.header.Get("Access-Control-Allow-Origin") != "https://school.example" {
			t.Errorf("%s: %s %v", path, a, a.header)
		}
	}
	for want, body := range map[string]map[string]any{
		"403 component_denied": {"grant": g, "id": newUUID(), "component": "mod_other", "kind": "job", "data": 1},
		"409 id_taken":         {"grant": c.sender("mod_test").grant, "id": id, "component": "mod_test", "kind": "job", "data": 1},
		"401 grant_invalid":    {"grant": "x", "id": newUUID(), "component": "mod_test", "kind": "job", "data": 1},
	} {
		a := c.page(t, "/v1/messages", body, plain...)
		expectOneOf(t, a, want)
		if a.header.Get("Access-Control-Allow-Origin") == "" {
			t.Errorf("a page cannot read %s", want)
		}
	}
	denied := c.page(t, "/v1/messages", map[string]any{"grant": g, "id": newUUID(), "component": "mod_test", "kind": "job", "data": 1}, "Origin", "https://evil.example")
	expectProblem(t, denied, 403, "origin_denied")
}

// TestAnyMomentGivesExactlyWhatCameAfterIt takes moments between, at and beside events, in microseconds.
func TestAnyMomentGivesExactlyWhatCameAfterIt(t *testing.T) {
	c := start(t)
	h := c.s.hash("a")
	origin := c.publish(t, h, "first")
	for i := range 150 {
		c.publish(t, h, i)
	}
	all, _ := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}, "cursor": origin.String()}).caughtUp()
	for range 40 {
		e := all[rand.IntN(len(all))]
		at := int64(e.Time*1e6+0.5) + rand.Int64N(3) - 1
		var want []string
		for _, e := range all {
			if int64(e.Time*1e6+0.5) > at {
				want = append(want, string(e.Data))
			}
		}
		from := fmt.Sprintf("%d.%06d", at/1e6, at%1e6)
		g := c.s.grant([]entry{{"h": h, "from": rawNumber(from)}})
		s := c.open(t, map[string]any{"grants": []string{g}})
		events, _ := s.caughtUp()
		s.close()
		if !slices.Equal(datas(events), append([]string{}, want...)) {
			t.Errorf("from %s: %d events, want %d", from, len(events), len(want))
		}
	}
}

// rawNumber is a JSON number in the spelling given.
type rawNumber string

func (n rawNumber) MarshalJSON() ([]byte, error) { return []byte(n), nil }

// TestStalledReadersCostBoundedMemory holds 150 pages that read nothing while 32 MB are published for each of them.
func TestStalledReadersCostBoundedMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("reads /proc")
	}
	c := startAlone(t)
	h := c.s.hash("a")
	for range 150 {
		slowStream(t, c, c.s.hears(h))
	}
	before := residentMiB(t, c.b)
	pad := strings.Repeat("x", 32<<10)
	for range 40 {
		batch := make([]map[string]any, 25)
		for j := range batch {
			batch[j] = publishBody(h, pad)
		}
		c.batch(t, batch...)
	}
	quick := c.open(t, map[string]any{"grants": []string{c.s.hears(h)}})
	quick.caughtUp()
	begun := time.Now()
	c.publish(t, h, "end")
	quick.awaitEvents(1)
	after := residentMiB(t, c.b)
	t.Logf("resident: %d MiB with 150 streams, %d MiB when all are 32 MB behind; the next event took %s", before, after, time.Since(begun))
	limit := 400
	if *brokerRace {
		limit = 1200
	}
	if after-before > limit {
		t.Errorf("it grew by %d MiB", after-before)
	}
}

func residentMiB(t *testing.T, b *brokerProcess) int {
	t.Helper()
	b.mu.Lock()
	pid := b.cmd.Process.Pid
	b.mu.Unlock()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := bytes.Cut(status, []byte("VmRSS:"))
	kib, err := strconv.Atoi(strings.Fields(string(rest))[0])
	if err != nil {
		t.Fatal(err)
	}
	return kib >> 10
}
