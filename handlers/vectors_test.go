package handlers

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"backchannel/broker"
)

// The vectors are made by a program that knows the contract alone (testdata/vectors/generate); PHP and Node check them
// as well.
func TestGrantsAreJudgedAsTheVectorsSay(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", "grants.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Sites map[broker.SiteID]struct{ Keys map[string]string }
		Cases []struct {
			Name, Token, Caller string
			At, Until           int64
			Code                broker.Code
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	sites := make(map[broker.SiteID]*broker.Site)
	for id, s := range file.Sites {
		site := &broker.Site{ID: id, Salt: make([]byte, 32), Limits: broker.DefaultLimits()}
		for _, kid := range slices.Sorted(maps.Keys(s.Keys)) {
			key, err := broker.ParseKey(kid + "." + s.Keys[kid])
			if err != nil {
				t.Fatal(err)
			}
			site.Keys = append(site.Keys, key)
		}
		sites[id] = site
	}
	for _, c := range file.Cases {
		t.Run(c.Name, func(t *testing.T) {
			d := newDesk(t)
			d.sites.Replace(sites)
			d.now = time.Unix(c.At, 0)
			got, err := d.authenticate(presented{Grants: []string{c.Token}}, "")
			if code := broker.CodeOf(err); code != c.Code {
				t.Fatalf("got %q (%v), want %q", code, err, c.Code)
			}
			if err != nil {
				return
			}
			g := got.Grants[0]
			if g.Until.Unix() != c.Until || g.Caller() != c.Caller {
				t.Errorf("until %d, caller %q, want %d, %q", g.Until.Unix(), g.Caller(), c.Until, c.Caller)
			}
		})
	}
}
