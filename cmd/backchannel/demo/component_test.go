package demo

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// webhookOf gives a component's webhook and a function that signs and sends to it as the broker does.
func webhookOf(t *testing.T, hostile bool) (*component, func(id string, attempt int, body string) (int, string)) {
	t.Helper()
	s, err := newSite()
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(s, func() string { return "" }, time.Now)
	c := newComponent(s, r, func() bool { return hostile }, time.Now)
	server := httptest.NewServer(http.HandlerFunc(c.webhook))
	t.Cleanup(func() { server.Close(); r.close(); http.DefaultClient.CloseIdleConnections() })
	return c, func(id string, attempt int, body string) (int, string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader(body))
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		now := strconv.FormatInt(time.Now().Unix(), 10)
		mac := hmac.New(sha256.New, s.key.Webhook)
		_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, now, body)
		req.Header.Set("webhook-id", id)
		req.Header.Set("webhook-timestamp", now)
		req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
		req.Header.Set("Backchannel-Attempt", strconv.Itoa(attempt))
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return 0, "" // cut
		}
		defer func() { _ = res.Body.Close() }()
		text, _ := io.ReadAll(res.Body)
		return res.StatusCode, strings.TrimSpace(string(text))
	}
}

func mark(id string) string {
	return `{"type":"message.call","id":"` + id + `","session":"s","data":{"do":"mark","a":6,"b":7,"is":42}}`
}

func TestTheComponentActsOnceHoweverOftenItIsAsked(t *testing.T) {
	c, send := webhookOf(t, false)
	const want = `{"points":1,"product":42,"right":true}`
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			if status, reply := send("m1", i+1, mark("m1")); status != http.StatusOK || reply != want {
				t.Errorf("attempt %d: %d %s", i+1, status, reply)
			}
		})
	}
	all.Wait()
	if s := c.status(); s.Attempts != 8 || s.Effects != 1 || s.Messages != 1 || s.Repeats != 7 {
		t.Errorf("%+v", s.tally)
	}
}

func TestTheComponentRefusesWhatTheBrokerDidNotSign(t *testing.T) {
	c, send := webhookOf(t, false)
	if status, _ := send("m2", 1, mark("m1")); status != http.StatusUnauthorized {
		t.Errorf("an id that is not the body's: %d, want 401", status)
	}
	c.site.key.Webhook[0]++ // the receiver has another key now
	defer func() { c.site.key.Webhook[0]-- }()
	req := httptest.NewRequest(http.MethodPost, componentPath, strings.NewReader(mark("m1")))
	req.Header.Set("webhook-id", "m1")
	req.Header.Set("webhook-timestamp", strconv.FormatInt(time.Now().Unix(), 10))
	req.Header.Set("webhook-signature", "v1,AAAA")
	w := httptest.NewRecorder()
	c.webhook(w, req)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("a forged signature: %d, want 401", w.Code)
	}
	if s := c.status(); s.Forged != 2 || s.Effects != 0 {
		t.Errorf("%+v", s.tally)
	}
}

func TestInAHostileWorldEachMessageStillActsOnce(t *testing.T) {
	c, send := webhookOf(t, true)
	const messages = 60
	for i := range messages {
		id := fmt.Sprintf("m%d", i)
		for attempt := 1; ; attempt++ {
			if status, reply := send(id, attempt, mark(id)); status == http.StatusOK {
				var answer struct{ Points int }
				if err := json.Unmarshal([]byte(reply), &answer); err != nil || answer.Points != i+1 {
					t.Fatalf("message %d: %s %v", i, reply, err)
				}
				break
			}
			if attempt == 3 {
				t.Fatalf("message %d was not answered in three attempts", i)
			}
		}
	}
	s := c.status()
	if s.Effects != messages || s.Messages != messages {
		t.Errorf("%d messages had %d effects", s.Messages, s.Effects)
	}
	if s.Lost == 0 || s.Busy == 0 || s.Repeats != s.Lost {
		t.Errorf("the world was not hostile: %+v", s.tally)
	}
}
