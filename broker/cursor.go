package broker

import (
	"crypto/rand"
	"strconv"
	"strings"
)

const epochBytes = 8

// Epoch says which life of a store a position belongs to: 8 random characters of 0-9a-z, made with the store and by
// restore. It changes when and only when continuity is broken, so an old cursor can never select the wrong events.
type Epoch string

// NewEpoch makes a random epoch.
func NewEpoch() Epoch {
	const letters = "0123456789abcdefghijklmnopqrstuvwxyz"
	out := make([]byte, 0, epochBytes)
	var b [1]byte
	for len(out) < epochBytes {
		_, _ = rand.Read(b[:]) // crypto/rand.Read never fails since Go 1.24
		if b[0] < 252 {        // 7*36: no letter is likelier than another
			out = append(out, letters[b[0]%36])
		}
	}
	return Epoch(out)
}

func (e Epoch) valid() bool {
	if len(e) != epochBytes {
		return false
	}
	for i := range len(e) {
		if c := e[i]; (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// Cursor is a position in the log of one epoch, written <epoch>-<seq>. Seq counts from 1 over the whole log; 0 is
// before the first event.
type Cursor struct {
	Epoch Epoch
	Seq   uint64
}

// ParseCursor reads the wire form. Anything that String does not print is CodeBadRequest, leading zeros included, so
// that equal positions are equal strings.
func ParseCursor(s string) (Cursor, error) {
	epoch, digits, found := strings.Cut(s, "-")
	if !found || !Epoch(epoch).valid() || digits == "" || digits[0] == '+' || len(digits) > 1 && digits[0] == '0' {
		return Cursor{}, Errorf(CodeBadRequest, "cursor %q: want <epoch>-<seq>, such as x7k2m9qa-1042", clip(s))
	}
	seq, err := strconv.ParseUint(digits, 10, 64)
	if err != nil {
		return Cursor{}, Errorf(CodeBadRequest, "cursor %q: %q is not a position", clip(s), clip(digits))
	}
	return Cursor{Epoch: Epoch(epoch), Seq: seq}, nil
}

// String gives the wire form.
func (c Cursor) String() string { return string(c.append(nil)) }

func (c Cursor) append(dst []byte) []byte {
	dst = append(dst, c.Epoch...)
	dst = append(dst, '-')
	return strconv.AppendUint(dst, c.Seq, 10)
}

// MarshalText implements encoding.TextMarshaler.
func (c Cursor) MarshalText() ([]byte, error) { return c.append(nil), nil }

// UnmarshalText implements encoding.TextUnmarshaler; it fails as ParseCursor does.
func (c *Cursor) UnmarshalText(text []byte) error {
	parsed, err := ParseCursor(string(text))
	if err == nil {
		*c = parsed
	}
	return err
}
