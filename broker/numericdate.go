package broker

import (
	"encoding/json"
	"math"
	"strconv"
	"time"
)

// NumericDate is a moment as JWTs write it (RFC 7519, section 2): seconds since 1970, a fraction allowed. It is held
// in microseconds, because a float of seconds loses them. 0 means that none was given.
type NumericDate int64

// NumericDateOf converts; fractions below a microsecond are cut off.
func NumericDateOf(t time.Time) NumericDate { return NumericDate(t.UnixMicro()) }

// Time converts; the zero NumericDate gives the zero Time.
func (d NumericDate) Time() time.Time {
	if d == 0 {
		return time.Time{}
	}
	return time.UnixMicro(int64(d))
}

// IsZero serves the JSON option omitzero.
func (d NumericDate) IsZero() bool { return d == 0 }

// MarshalJSON writes whole seconds as an integer, anything else with six decimals.
func (d NumericDate) MarshalJSON() ([]byte, error) { return appendSeconds(nil, int64(d)), nil }

// UnmarshalJSON takes a positive number of seconds before the year 10000.
func (d *NumericDate) UnmarshalJSON(b []byte) error {
	f, err := strconv.ParseFloat(string(b), 64)
	if err != nil || math.IsNaN(f) || f <= 0 || f > 253402300799 {
		return Errorf(CodeBadRequest, "time %q: want seconds since 1970", clip(string(b)))
	}
	*d = NumericDate(math.Round(f * 1e6))
	return nil
}

// appendSeconds writes microseconds as seconds: "1790000000" or "1790000000.123456".
func appendSeconds(dst []byte, micros int64) []byte {
	dst = strconv.AppendInt(dst, micros/1e6, 10)
	if rest := micros % 1e6; rest != 0 {
		dst = appendFraction(dst, rest)
	}
	return dst
}

// appendTime writes the form in which the wire carries the broker's clock: seconds with exactly six decimals.
func appendTime(dst []byte, micros int64) []byte {
	return appendFraction(strconv.AppendInt(dst, micros/1e6, 10), micros%1e6)
}

func appendFraction(dst []byte, micros int64) []byte {
	digits := [7]byte{'.'}
	for i := 6; i > 0; i-- {
		digits[i] = byte('0' + micros%10)
		micros /= 10
	}
	return append(dst, digits[:]...)
}

// FormatTime is the clock as Backchannel-Time carries it: Unix seconds with six decimals.
func FormatTime(t time.Time) string { return string(appendTime(nil, t.UnixMicro())) }

// StartClaim is a Start in JSON: a cursor is a string, a moment is a number.
type StartClaim Start

// IsZero serves the JSON option omitzero.
func (s StartClaim) IsZero() bool { return Start(s).IsZero() }

// MarshalJSON implements json.Marshaler.
func (s StartClaim) MarshalJSON() ([]byte, error) {
	if s.Cursor != "" {
		return json.Marshal(s.Cursor)
	}
	return NumericDateOf(s.Time).MarshalJSON()
}

// UnmarshalJSON implements json.Unmarshaler. Any string is taken: an unreadable cursor is "not recovered", no error.
func (s *StartClaim) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '"' {
		if err := json.Unmarshal(b, &s.Cursor); err != nil {
			return err
		}
		if s.Cursor == "" || len(s.Cursor) > maxAsBytes {
			return Errorf(CodeBadRequest, "from: want a cursor or seconds since 1970")
		}
		return nil
	}
	var d NumericDate
	if err := d.UnmarshalJSON(b); err != nil {
		return err
	}
	s.Time = d.Time()
	return nil
}
