package webhooks_test

import (
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"backchannel/webhooks"
)

// A receiver takes a request if one of its secrets gives one of the signatures: what the broker signs must be what the
// vectors, which PHP and Node check too, have for the valid cases, and never what they have for the others.
func TestSignaturesAreThoseOfTheVectors(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "testdata", "vectors", "webhooks.json"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Tolerance int64
		Cases     []struct {
			Name, ID, Timestamp, Body, Signature string
			Secrets                              []string
			At                                   int64
			Valid                                bool
		}
	}
	if err := json.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	for _, c := range file.Cases {
		timestamp, err := strconv.ParseInt(c.Timestamp, 10, 64)
		if err != nil || max(c.At-timestamp, timestamp-c.At) > file.Tolerance {
			continue // the receiver's clock decides, not the signature
		}
		fits := slices.ContainsFunc(c.Secrets, func(secret string) bool {
			key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
			if err != nil {
				t.Fatal(err)
			}
			return slices.Contains(strings.Split(c.Signature, " "), webhooks.Sign(key, webhooks.ID(c.ID), timestamp, []byte(c.Body)))
		})
		if fits != c.Valid {
			t.Errorf("%s: the broker's signature fits: %v, want %v", c.Name, fits, c.Valid)
		}
	}
}
