package webhooks

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
)

// A webhook's URL is configuration, but what its name resolves to is not: whoever controls the name could point the
// broker at its own network. So every address is checked when it is dialled, after DNS.

// addressError refuses an address. It is certain that nothing was sent.
type addressError struct {
	addr netip.Addr
	text string
}

func (e *addressError) Error() string { return e.text }

// guard decides for one endpoint.
type guard struct {
	allow []netip.Prefix
	// chosen says that the admin wrote the address itself (webhook_connect), so private ones need no leave.
	chosen bool
	// admin is the broker's own admin listener; nil if there is none.
	admin func() netip.AddrPort
	// local lists the machine's addresses; it is asked only if the port is the admin listener's.
	local func() ([]net.Addr, error)
}

// control implements net.Dialer.ControlContext: address is what is really dialled.
func (g guard) control(_ context.Context, _, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return &addressError{text: fmt.Sprintf("address %q cannot be checked", address)}
	}
	return g.check(ap)
}

func (g guard) check(ap netip.AddrPort) error {
	addr := ap.Addr().WithZone("").Unmap()
	if g.isAdmin(netip.AddrPortFrom(addr, ap.Port())) {
		return &addressError{addr, fmt.Sprintf("%s is the broker's own admin listener and is never dialled: correct the webhook's URL", ap)}
	}
	if err := g.checkAddr(addr); err != nil {
		return err
	}
	for _, inner := range embedded(addr) {
		if g.allowed(addr) {
			break
		}
		if err := g.checkAddr(inner); err != nil {
			return err
		}
	}
	return nil
}

func (g guard) checkAddr(addr netip.Addr) error {
	for _, inner := range append(embedded(addr), addr) {
		if what := find(never, inner); what != "" {
			return &addressError{addr, fmt.Sprintf("address %s is %s and is never dialled: correct the webhook's URL or its DNS entry", addr, what)}
		}
	}
	what := find(onLeave, addr)
	if what == "" || g.chosen || g.allowed(addr) {
		return nil
	}
	one := netip.PrefixFrom(addr, addr.BitLen())
	return &addressError{addr, fmt.Sprintf("address %s is %s: to allow it, add allow_cidr = [%q] to the site's file", addr, what, one)}
}

func (g guard) allowed(addr netip.Addr) bool {
	return slices.ContainsFunc(g.allow, func(p netip.Prefix) bool {
		if p.Addr().Is4In6() && p.Bits() >= 96 { // ::ffff:10.0.0.0/104 means 10.0.0.0/8
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		return p.Contains(addr)
	})
}

// isAdmin takes every address under which this machine would answer on the admin port.
func (g guard) isAdmin(ap netip.AddrPort) bool {
	if g.admin == nil {
		return false
	}
	admin := g.admin()
	if !admin.IsValid() || admin.Port() != ap.Port() {
		return false
	}
	for _, addr := range append(embedded(ap.Addr()), ap.Addr()) {
		if addr.IsLoopback() || addr.IsUnspecified() || addr == admin.Addr().WithZone("").Unmap() {
			return true
		}
	}
	return admin.Addr().Unmap().IsUnspecified() && g.isLocal(ap.Addr())
}

func (g guard) isLocal(addr netip.Addr) bool {
	addrs, err := g.local()
	if err != nil {
		return true // nothing is known, so the admin port is not risked
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		p, err := netip.ParsePrefix(a.String())
		return err == nil && p.Addr().Unmap() == addr
	})
}

type addressRange struct {
	prefix netip.Prefix
	what   string
}

func find(ranges []addressRange, addr netip.Addr) string {
	for _, r := range ranges {
		if r.prefix.Contains(addr) {
			return r.what
		}
	}
	return ""
}

// never lists what no configuration can open.
var never = ranges(
	"the metadata service of a cloud", "169.254.169.254/32", "fd00:ec2::254/128", "fd20:ce::254/128",
	"100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32",
	"link-local", "169.254.0.0/16", "fe80::/10",
	"multicast", "224.0.0.0/4", "ff00::/8",
	"unspecified", "0.0.0.0/8", "::/128",
	"broadcast", "255.255.255.255/32",
	"reserved", "240.0.0.0/4",
)

// onLeave lists what is dialled only if the site allows it.
var onLeave = ranges(
	"loopback", "127.0.0.0/8", "::1/128",
	"private", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7", "fec0::/10",
	"shared address space (carrier NAT)", "100.64.0.0/10",
	"a test network", "198.18.0.0/15",
	"a protocol assignment", "192.0.0.0/24",
	"local-use NAT64", "64:ff9b:1::/48",
)

// ranges reads a description followed by its prefixes, again and again. What does not parse is a description.
func ranges(words ...string) []addressRange {
	var out []addressRange
	var what string
	for _, w := range words {
		p, err := netip.ParsePrefix(w)
		if err != nil {
			what = w
			continue
		}
		out = append(out, addressRange{p, what})
	}
	return out
}

// embedded gives the IPv4 addresses to which a translator or relay would send what is dialled at addr: NAT64 (RFC
// 6052, RFC 8215), 6to4 (RFC 3056), Teredo (RFC 4380), ISATAP (RFC 5214) and the old IPv4-compatible form.
func embedded(addr netip.Addr) []netip.Addr {
	if !addr.Is6() {
		return nil
	}
	b := addr.As16()
	word := func(i int) uint32 { return binary.BigEndian.Uint32(b[i:]) }
	var out []netip.Addr
	add := func(v uint32) {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], v)
		out = append(out, netip.AddrFrom4(a))
	}
	switch {
	case word(0) == 0x0064ff9b:
		add(word(12))
	case b[0] == 0x20 && b[1] == 0x02:
		add(word(2))
	case word(0) == 0x20010000:
		add(word(4))
		add(^word(12))
	case word(0) == 0 && word(4) == 0 && word(8) == 0 && word(12) > 1:
		add(word(12))
	case word(8)&^0x02000000 == 0x00005efe:
		add(word(12))
	}
	return out
}
