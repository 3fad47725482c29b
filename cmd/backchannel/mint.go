package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"

	"backchannel/broker"
)

// signGrant gives claims the form of a credential: a JWT signed with HS256 (RFC 7515). Signing needs no library;
// verifying, where the traps are, is done by the broker alone.
func signGrant(key *broker.Key, claims broker.Claims) (string, error) {
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Kid string `json:"kid"`
		Typ string `json:"typ"`
	}{"HS256", key.ID, "JWT"})
	if err != nil {
		return "", fmt.Errorf("encode grant: %w", err)
	}
	body, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encode grant: %w", err)
	}
	enc := base64.RawURLEncoding.EncodeToString
	signed := enc(header) + "." + enc(body)
	mac := hmac.New(sha256.New, key.Grant)
	mac.Write([]byte(signed))
	return signed + "." + enc(mac.Sum(nil)), nil
}

// randomID is 128 random bits in base64url: a jti.
func randomID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}
