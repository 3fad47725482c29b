package main

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes. In configuration it is a string with a unit: "512MiB". Units are B, KiB, MiB, GiB, TiB
// (powers of 1,024) and kB, MB, GB, TB (powers of 1,000); a plain number is bytes.
type Size int64

// UnmarshalText reads the form that String prints, and plain numbers.
func (s *Size) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	digits := strings.TrimRight(in, "KMGTkiB ")
	factor, known := sizeFactor(strings.TrimSpace(in[len(digits):]))
	n, err := strconv.ParseFloat(digits, 64)
	if err != nil || !known || n < 0 || math.IsNaN(n) || n*factor >= math.MaxInt64 {
		return fmt.Errorf("%q is not a size; write a number and a unit, such as \"512MiB\" or \"1GiB\"", in)
	}
	*s = Size(n * factor)
	return nil
}

func sizeFactor(unit string) (float64, bool) {
	switch unit {
	case "", "B":
		return 1, true
	case "kB":
		return 1e3, true
	case "MB":
		return 1e6, true
	case "GB":
		return 1e9, true
	case "TB":
		return 1e12, true
	case "KiB":
		return 1 << 10, true
	case "MiB":
		return 1 << 20, true
	case "GiB":
		return 1 << 30, true
	case "TiB":
		return 1 << 40, true
	}
	return 0, false
}

// String prints the largest binary unit that divides s.
func (s Size) String() string {
	n, i := int64(s), 0
	units := [...]string{"B", "KiB", "MiB", "GiB", "TiB"}
	for n != 0 && n%1024 == 0 && i < len(units)-1 {
		n /= 1024
		i++
	}
	return strconv.FormatInt(n, 10) + units[i]
}

// MarshalText implements encoding.TextMarshaler with String.
func (s Size) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Duration is a time.Duration that configuration writes as "24h", "15s", "90m" or, beyond Go's own form, "7d".
type Duration time.Duration

// UnmarshalText reads Go's form and whole or fractional days.
func (d *Duration) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	v, err := time.ParseDuration(in)
	if days, found := strings.CutSuffix(in, "d"); found && err != nil {
		var n float64
		if n, err = strconv.ParseFloat(days, 64); err == nil && math.Abs(n) < 36500 {
			v = time.Duration(n * float64(24*time.Hour))
		}
	}
	if err != nil || v < 0 || math.IsNaN(v.Seconds()) {
		return fmt.Errorf("%q is not a duration; write a number and a unit, such as \"24h\", \"15s\" or \"7d\"", in)
	}
	*d = Duration(v)
	return nil
}

// String prints Go's form without zero parts at the end: "24h", not "24h0m0s".
func (d Duration) String() string {
	s := time.Duration(d).String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// MarshalText implements encoding.TextMarshaler with String.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// CIDR is a range of addresses; a single address is a range of one.
type CIDR struct{ netip.Prefix }

// UnmarshalText reads "10.0.0.0/8", "::1/128", or an address alone.
func (c *CIDR) UnmarshalText(text []byte) error {
	in := strings.TrimSpace(string(text))
	if a, err := netip.ParseAddr(in); err == nil && a.Zone() == "" {
		c.Prefix = netip.PrefixFrom(a, a.BitLen())
		return nil
	}
	p, err := netip.ParsePrefix(in)
	if err != nil {
		return fmt.Errorf("%q is not a range of addresses; write \"10.0.0.0/8\" or one address", in)
	}
	c.Prefix = p.Masked()
	return nil
}

// checkListen accepts host:port, :port, and "systemd".
func checkListen(s string) error {
	if s == listenSystemd {
		return nil
	}
	host, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && host != "" && host != "localhost" {
		_, err = netip.ParseAddr(host)
	}
	if err != nil {
		return fmt.Errorf("%q is not an address to listen on; write \"127.0.0.1:8480\", \":8480\", \"[::1]:8480\" or \"systemd\"", s)
	}
	return nil
}

// listenSystemd as an address means a socket that the service manager opened.
const listenSystemd = "systemd"
