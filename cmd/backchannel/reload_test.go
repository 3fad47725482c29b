package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"backchannel/broker"
	"backchannel/webhooks"
)

func TestReloadGivesASiteABoundOfItsOwn(t *testing.T) {
	r := startApp(t, "", "")
	accept := func(id webhooks.ID) error {
		_, _, err := r.store.Accept(t.Context(), webhooks.Delivery{
			Message: webhooks.Message{
				Ref: webhooks.Ref{Site: "moodle", ID: id}, Component: "mod_kahoodle", Kind: webhooks.KindJob, Type: webhooks.TypeJob,
				Data: json.RawMessage(`"` + strings.Repeat("x", 50<<10) + `"`),
			},
			State: webhooks.StateWaiting,
		})
		return err
	}
	for _, id := range []webhooks.ID{"1", "2"} {
		if err := accept(id); err != nil {
			t.Fatalf("without a bound of its own: %v", err)
		}
	}
	file := filepath.Join(filepath.Dir(r.config), "sites", "moodle.toml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, string(text)+"\n[site.limits]\nqueue = \"128KiB\"\n")
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := accept("3"); broker.CodeOf(err) != broker.CodeStoreFull || !strings.Contains(err.Error(), "131072 bytes ([site.limits] queue)") {
		t.Errorf("beyond the new bound: %v, want store_full and its name", err)
	}
	write(t, file, string(text))
	if err := r.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := accept("3"); err != nil {
		t.Errorf("the bound was taken away again: %v", err)
	}
}
