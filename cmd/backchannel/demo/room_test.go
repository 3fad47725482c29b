package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"
)

// forgetful is a broker that stores every publish, and answers only each second one.
type forgetful struct {
	mu    sync.Mutex
	asked int
	ids   []string       // in the order of their first arrival
	seen  map[string]int // guarded by mu
}

func (f *forgetful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var draft struct{ ID string }
	_ = json.NewDecoder(r.Body).Decode(&draft) // an empty id shows
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked++
	if f.seen[draft.ID] == 0 {
		f.ids = append(f.ids, draft.ID)
	}
	f.seen[draft.ID]++
	if f.asked%2 == 1 {
		panic(http.ErrAbortHandler)
	}
	_, _ = fmt.Fprintf(w, `{"id":"x7k2m9qa-%d"}`, len(f.ids))
}

func TestTheRoomNumbersWithoutGapsAndSaysARepeatOnce(t *testing.T) {
	fake := &forgetful{seen: make(map[string]int)}
	server := httptest.NewServer(fake)
	defer server.Close()
	s, err := newSite()
	if err != nil {
		t.Fatal(err)
	}
	r := newRoom(s, func() string { return strings.TrimPrefix(server.URL, "http://") }, time.Now)
	defer r.close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- r.Run(ctx) }()

	numbers := make([]int, 4)
	var all sync.WaitGroup
	for i := range numbers {
		all.Go(func() {
			n, err := r.Say(ctx, saying{ID: "one", From: "Ada", Text: "hello"})
			if err != nil {
				t.Error(err)
			}
			numbers[i] = n
		})
	}
	all.Wait()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run ended with %v", err)
	}
	for _, n := range numbers {
		if n != numbers[0] || n == 0 {
			t.Errorf("one saying has the numbers %v", numbers)
		}
	}
	if talk := r.snapshot().Talk; len(talk) != 1 || talk[0].N != numbers[0] {
		t.Errorf("the talk is %+v", talk)
	}
	fake.mu.Lock()
	defer fake.mu.Unlock()
	for i, id := range fake.ids {
		if id != fmt.Sprint(i+1) {
			t.Errorf("publish %d has the number %s", i+1, id)
		}
	}
}
