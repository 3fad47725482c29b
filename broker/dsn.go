package broker

import (
	"encoding/base64"
	"net/url"
	"strings"
)

// DSN is the one line that connects an LMS:
// http[s]://<site>:<kid>.<secret>.<salt>@host[:port][/prefix][?via=URL].
type DSN struct {
	Site SiteID
	Key  *Key
	Salt []byte
	// Public is where browsers go: scheme, host and prefix, without a slash at the end.
	Public string
	// Via is where the LMS itself sends, "" for Public.
	Via string
}

// ParseDSN reads a DSN. Errors have CodeBadRequest, name the part that is wrong and never hold the secret.
func ParseDSN(s string) (DSN, error) {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User == nil {
		return DSN{}, Errorf(CodeBadRequest, "DSN: want http[s]://<site>:<kid>.<secret>.<salt>@host[:port][/prefix][?via=URL]")
	}
	site, err := ParseSiteID(u.User.Username())
	if err != nil {
		return DSN{}, err
	}
	password, _ := u.User.Password()
	parts := strings.Split(password, ".")
	if len(parts) != 3 {
		return DSN{}, Errorf(CodeBadRequest, "DSN: after the site want <kid>.<secret>.<salt>, got %d parts", len(parts))
	}
	key, err := ParseKey(parts[0] + "." + parts[1])
	if err != nil {
		return DSN{}, err
	}
	salt, err := ParseSecret("salt", parts[2])
	if err != nil {
		return DSN{}, err
	}
	d := DSN{Site: site, Key: key, Salt: salt, Public: u.Scheme + "://" + u.Host + strings.TrimRight(u.Path, "/")}
	for name, values := range u.Query() {
		if name != "via" || len(values) != 1 {
			return DSN{}, Errorf(CodeBadRequest, "DSN: unknown parameter %q; only via is known, once", clip(name))
		}
		via, err := url.Parse(values[0])
		if err != nil || via.Scheme != "http" && via.Scheme != "https" || via.Host == "" {
			return DSN{}, Errorf(CodeBadRequest, "DSN: via is not an http(s) URL")
		}
		d.Via = strings.TrimRight(values[0], "/")
	}
	return d, nil
}

// String gives the wire form. It holds the secret: print it, never log it.
func (d DSN) String() string {
	scheme, rest, _ := strings.Cut(d.Public, "://")
	enc := base64.RawURLEncoding.EncodeToString
	s := scheme + "://" + string(d.Site) + ":" + d.Key.ID + "." + enc(d.Key.Secret) + "." + enc(d.Salt) + "@" + rest
	if d.Via != "" {
		s += "?via=" + url.QueryEscape(d.Via)
	}
	return s
}

// Server is the base URL for the server API.
func (d DSN) Server() string {
	if d.Via != "" {
		return d.Via
	}
	return d.Public
}

// ParseKey reads <kid>.<secret> as configuration and DSN write it.
func ParseKey(s string) (*Key, error) {
	id, text, found := strings.Cut(s, ".")
	if !found {
		return nil, Errorf(CodeBadRequest, "key: want <kid>.<secret>")
	}
	secret, err := ParseSecret("secret of key "+clip(id), text)
	if err != nil {
		return nil, err
	}
	return NewKey(id, secret)
}

// ParseSecret reads 32 bytes in base64url without padding; what names it in the error, which never holds the text.
func ParseSecret(what, text string) ([]byte, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != secretBytes {
		return nil, Errorf(CodeBadRequest, "%s: want %d bytes in base64url without padding (43 characters), got %d characters", what, secretBytes, len(text))
	}
	return b, nil
}
