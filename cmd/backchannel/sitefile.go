package main

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/BurntSushi/toml"
)

// newSiteConfig makes a site with a fresh key and salt.
func newSiteConfig(name string, origins []string) SiteConfig {
	return SiteConfig{Name: name, Keys: []string{newKeyText("k1")}, Salt: randomSecret(), Origins: origins}
}

func newKeyText(kid string) string { return kid + "." + randomSecret() }

// randomSecret is 32 random bytes as DSN and configuration write them.
func randomSecret() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// writeSiteFile writes a new file with one site, mode 0600. It never replaces one.
func writeSiteFile(path string, s SiteConfig) error {
	var b strings.Builder
	b.WriteString("# A site of a Backchannel broker. This file holds its secrets: keep it unreadable to others.\n\n[[site]]\n")
	for _, l := range []struct {
		key   string
		value any
		omit  bool
	}{
		{"name", s.Name, false},
		{"keys", s.Keys, false},
		{"salt", s.Salt, false},
		{"origins", s.Origins, false},
		{"webhook", s.Webhook, s.Webhook == ""},
		{"allow_cidr", s.AllowCIDR, len(s.AllowCIDR) == 0},
	} {
		if !l.omit {
			fmt.Fprintf(&b, "%s = %s\n", l.key, tomlValue(l.value))
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make directory of sites: %w", err)
	}
	return writeNew(path, []byte(b.String()), 0o600)
}

// tomlValue writes strings and lists of strings; all of ours are free of what TOML would escape differently from Go.
func tomlValue(v any) string {
	switch v := v.(type) {
	case []string:
		quoted := make([]string, len(v))
		for i, s := range v {
			quoted[i] = tomlString(s)
		}
		return "[" + strings.Join(quoted, ", ") + "]"
	case []CIDR:
		texts := make([]string, len(v))
		for i, c := range v {
			texts[i] = c.String()
		}
		return tomlValue(texts)
	default:
		return tomlString(fmt.Sprint(v))
	}
}

// tomlString is a basic string of TOML.
func tomlString(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// writeNew writes a file that must not exist yet.
func writeNew(path string, text []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode) // #nosec G304 -- beside the configuration
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s exists already; nothing was changed", path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(text)
	err = errors.Join(err, f.Sync(), f.Close())
	if err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

// writeAtomically replaces a file, so that a crash leaves the old one or the new one. Mode and owner stay.
func writeAtomically(path string, text []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("replace %s: %w", path, err)
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	_ = os.Remove(temp)
	if err := writeNew(temp, text, info.Mode().Perm()); err != nil {
		return err
	}
	if err = giveTo(temp, info); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		_ = os.Remove(temp)
		return fmt.Errorf("replace %s: %w", path, err)
	}
	return nil
}

// giveTo makes the owner of one file that of another. Only root can, and only root needs to.
func giveTo(path string, like fs.FileInfo) error {
	owner, ok := like.Sys().(*syscall.Stat_t)
	if !ok || os.Geteuid() != 0 {
		return nil
	}
	return os.Lchown(path, int(owner.Uid), int(owner.Gid))
}

var keysLine = regexp.MustCompile(`(?ms)^([ \t]*)keys[ \t]*=[ \t]*\[.*?\]`)

// rewriteKeys changes the keys of a site in its file and nothing else: comments and order stay as the admin wrote
// them.
func rewriteKeys(s *SiteConfig, keys []string) error {
	raw, err := readConfigFile(s.file)
	if err != nil {
		return err
	}
	text := string(raw)
	t := newText(text)
	line := t.line(fmt.Sprintf("site[%d].keys", s.nth))
	start := 0
	for range line - 1 {
		start += strings.IndexByte(text[start:], '\n') + 1
	}
	span := keysLine.FindStringSubmatchIndex(text[start:])
	if line == 0 || span == nil || span[0] != 0 {
		return fmt.Errorf("%s: the keys of site %q were not found as `keys = [...]`; change them by hand to: %s", s.file, s.Name, strings.Join(kidsOf(keys), ", "))
	}
	next := text[:start] + text[start+span[2]:start+span[3]] + "keys = " + tomlValue(keys) + text[start+span[1]:]
	if err := verifyKeys(next, s, keys); err != nil {
		return err
	}
	return writeAtomically(s.file, []byte(next))
}

func kidsOf(keys []string) []string {
	out := make([]string, len(keys))
	for i, k := range keys {
		out[i], _, _ = strings.Cut(k, ".")
	}
	return out
}

// verifyKeys reads what is about to be written: a file that TOML reads differently from us stays as it is.
func verifyKeys(text string, s *SiteConfig, keys []string) error {
	var inc included
	if _, err := toml.Decode(text, &inc); err != nil || s.nth >= len(inc.Sites) || !slices.Equal(inc.Sites[s.nth].Keys, keys) {
		return fmt.Errorf("%s: cannot change the keys of site %q safely; the file was left as it is", s.file, s.Name)
	}
	return nil
}
