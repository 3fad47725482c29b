package demo

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"backchannel/broker"
)

const (
	// maxBodyBytes bounds what the LMS and the component read of a request.
	maxBodyBytes = 64 << 10
	// maxSessions bounds what the LMS remembers; the oldest are forgotten.
	maxSessions = 1000
	maxSaying   = 500 // bytes
)

// lms is the smallest learning-management system there is: it knows who looks, signs what they may hear, and
// publishes what they say.
type lms struct {
	site *site
	room *room
	now  func() time.Time
	run  string // names this run of the demo: numbers of another one cannot be compared

	mu       sync.Mutex
	sessions map[string]string // guarded by mu; session to name
	order    []string          // guarded by mu
	joined   int               // guarded by mu
}

func newLMS(s *site, r *room, now func() time.Time) *lms {
	return &lms{site: s, room: r, now: now, run: randomID(), sessions: make(map[string]string)}
}

func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	return encode(b[:])
}

func encode(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// join renders a page: who it is, the state of the room, and a grant that begins where that state ends. A page that
// names its session stays who it was.
func (l *lms) join(w http.ResponseWriter, r *http.Request) {
	var in struct{ Session string }
	if err := readJSON(r, &in); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	state := l.room.snapshot() // before the grant is signed: what comes later is replayed
	if state.Cursor == "" {
		fail(w, http.StatusServiceUnavailable, errors.New("the room has not opened yet; try again"))
		return
	}
	session, name := l.session(in.Session)
	grant, err := l.grant(session, state.Cursor)
	if err != nil {
		fail(w, http.StatusInternalServerError, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]any{
		"run": l.run, "session": session, "name": name, "grant": grant, "channel": l.room.channel, "state": state,
	})
}

// names are who looks, in turn.
func names() []string {
	return []string{"Ada", "Blaise", "Chandra", "Dorothy", "Emmy", "Farida", "Grace", "Hypatia", "Ivo", "Jomo"}
}

func (l *lms) session(known string) (session, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if name, ok := l.sessions[known]; ok {
		return known, name
	}
	all := names()
	name = all[l.joined%len(all)]
	if round := l.joined / len(all); round > 0 {
		name = fmt.Sprintf("%s %d", name, round+1)
	}
	l.joined++
	session = randomID()
	l.sessions[session] = name
	l.order = append(l.order, session)
	if len(l.order) > maxSessions {
		delete(l.sessions, l.order[0])
		l.order = l.order[1:]
	}
	return session, name
}

func (l *lms) name(session string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	name, ok := l.sessions[session]
	return name, ok
}

// grant signs what a page may do: hear the room and what is meant for its session, and send to the component.
func (l *lms) grant(session, from string) (string, error) {
	own, err := broker.SessionChannel(l.site.salt, session)
	if err != nil {
		return "", err
	}
	now := l.now()
	claims := broker.Claims{
		Issuer: string(l.site.id), Audience: "backchannel", Subject: session, Session: session, ID: randomID(),
		IssuedAt: broker.NumericDate(now.Unix() * 1e6), Expires: broker.NumericDate(now.Add(10*time.Minute).Unix() * 1e6),
		Channels: []broker.EntryClaim{{Channel: l.room.channel}, {Channel: own}},
		Send:     []broker.ComponentID{componentName},
		From:     broker.StartClaim{Cursor: from},
	}
	return l.site.sign(claims)
}

// sign gives claims the form of a JWT. An LMS in any language does just this.
func (s *site) sign(claims broker.Claims) (string, error) {
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode grant: %w", err)
	}
	text := encode([]byte(`{"alg":"HS256","kid":"`+s.key.ID+`","typ":"JWT"}`)) + "." + encode(body)
	mac := hmac.New(sha256.New, s.key.Grant)
	mac.Write([]byte(text))
	return text + "." + encode(mac.Sum(nil)), nil
}

// say publishes what a page's user said. The page sends it again, with the same id, until it has an answer.
func (l *lms) say(w http.ResponseWriter, r *http.Request) {
	var in struct{ Session, ID, Text string }
	if err := readJSON(r, &in); err != nil {
		fail(w, http.StatusBadRequest, err)
		return
	}
	name, ok := l.name(in.Session)
	if !ok {
		fail(w, http.StatusForbidden, errors.New("no such session; load the page again"))
		return
	}
	if in.ID == "" || len(in.ID) > 64 || in.Text == "" || len(in.Text) > maxSaying {
		fail(w, http.StatusBadRequest, fmt.Errorf("want an id, and a text of 1 to %d bytes", maxSaying))
		return
	}
	n, err := l.room.Say(r.Context(), saying{ID: in.ID, From: name, Text: in.Text})
	if err != nil {
		fail(w, http.StatusServiceUnavailable, err)
		return
	}
	writeJSON(w, http.StatusOK, map[string]int{"n": n})
}

func readJSON(r *http.Request, into any) error {
	body, err := io.ReadAll(io.LimitReader(r.Body, maxBodyBytes))
	if err != nil {
		return fmt.Errorf("read request: %w", err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return errors.New("the body is not the JSON object that is wanted here")
	}
	return nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the page asks again if it did not get it
}

func fail(w http.ResponseWriter, status int, err error) {
	writeJSON(w, status, map[string]string{"detail": err.Error()})
}
