package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// adminPasswordFile is in Data, mode 0600. An operator may write another password into it; it is read at the start.
const adminPasswordFile = "admin.password"

// adminSecret is the hash of the admin listener's password: comparing hashes takes the same time for every guess, of
// whatever length.
type adminSecret [sha256.Size]byte

// adminPassword reads the password, and makes one at the first start; made tells where.
func adminPassword(dir string) (secret adminSecret, made string, err error) {
	path := filepath.Join(dir, adminPasswordFile)
	text, err := os.ReadFile(path) // #nosec G304 -- in the configured directory
	if errors.Is(err, fs.ErrNotExist) {
		text = []byte(randomSecret())
		err, made = writeNew(path, append(text, '\n'), 0o600), path
	}
	if err != nil {
		return adminSecret{}, "", fmt.Errorf("admin password: %w", err)
	}
	password := strings.TrimSpace(string(text))
	if len(password) < 12 {
		return adminSecret{}, "", fmt.Errorf("admin password: %s holds %d characters, want at least 12; remove the file to have one made", path, len(password))
	}
	return sha256.Sum256([]byte(password)), made, nil
}

// matches compares in constant time.
func (s adminSecret) matches(password string) bool {
	got := sha256.Sum256([]byte(password))
	return subtle.ConstantTimeCompare(got[:], s[:]) == 1
}
