package webhooks

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestGuardJudgesEveryFormOfAnAddress(t *testing.T) {
	const ok, leave, no = "ok", "leave", "never"
	for addr, want := range map[string]string{
		// public
		"8.8.8.8": ok, "1.1.1.1": ok, "93.184.216.34": ok, "172.15.255.255": ok, "172.32.0.0": ok, "11.0.0.0": ok,
		"9.255.255.255": ok, "192.167.255.255": ok, "192.169.0.0": ok, "100.63.255.255": ok, "100.128.0.0": ok,
		"126.255.255.255": ok, "128.0.0.1": ok, "223.255.255.255": ok, "2606:4700::1111": ok, "2a00:1450::1": ok,
		"::ffff:8.8.8.8": ok, "64:ff9b::808:808": ok, "2002:808:808::1": ok, "169.253.255.255": ok, "169.255.0.0": ok,
		// only on leave
		"127.0.0.1": leave, "127.255.255.254": leave, "127.1.2.3": leave, "::1": leave, "::ffff:127.0.0.1": leave,
		"::127.0.0.1": leave, "64:ff9b::7f00:1": leave, "2002:7f00:1::": leave, "10.0.0.0": leave, "10.255.255.255": leave,
		"172.16.0.0": leave, "172.31.255.255": leave, "192.168.0.0": leave, "192.168.255.255": leave, "::ffff:10.0.0.1": leave,
		"::ffff:192.168.1.1": leave, "64:ff9b::a00:1": leave, "64:ff9b::192.168.1.1": leave, "2002:a00:1::1": leave,
		"2002:c0a8:101::1": leave, "2002:ac10:1::1": leave, "100.64.0.0": leave, "100.127.255.255": leave,
		"::ffff:100.64.0.1": leave, "fc00::1": leave, "fd12:3456::1": leave, "fdff::1": leave, "fec0::1": leave,
		"198.18.0.1": leave, "198.19.255.255": leave, "192.0.0.1": leave, "64:ff9b:1::808:808": leave,
		"2001:0:7f00:1:0:0:f7f7:f7f7": leave, "2001:0:808:808:0:0:80ff:fffe": leave, "2001:db8::5efe:10.0.0.1": leave,
		"fe00::5efe:127.0.0.1": leave, "2001:db8::200:5efe:10.0.0.1": leave,
		// never
		"0.0.0.0": no, "0.1.2.3": no, "::": no, "::ffff:0.0.0.0": no, "64:ff9b::": no, "255.255.255.255": no,
		"169.254.0.1": no, "169.254.169.254": no, "169.254.170.2": no, "::ffff:169.254.169.254": no,
		"64:ff9b::a9fe:a9fe": no, "2002:a9fe:a9fe::1": no, "::169.254.169.254": no, "64:ff9b:1::169.254.169.254": no,
		"fd00:ec2::254": no, "fd20:ce::254": no, "100.100.100.200": no, "168.63.129.16": no, "fe80::1": no,
		"fe80::1%eth0": no, "febf::1": no, "224.0.0.1": no, "239.255.255.255": no, "::ffff:224.0.0.1": no, "ff02::1": no,
		"ff0e::1": no, "64:ff9b::e000:1": no, "240.0.0.1": no, "2002:e000:1::": no, "2001:0:a9fe:a9fe::": no,
	} {
		ap := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
		everything := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}
		strict, open, chosen := guard{}.check(ap), guard{allow: everything}.check(ap), guard{chosen: true}.check(ap)
		if (strict == nil) != (want == ok) || (open == nil) != (want != no) || (chosen == nil) != (want != no) {
			t.Errorf("%s: strict %v, all allowed %v, chosen %v; want %s", addr, strict, open, chosen, want)
		}
	}
}

func TestGuardNamesTheLineThatAllows(t *testing.T) {
	for addr, want := range map[string]string{
		"127.0.0.1": `allow_cidr = ["127.0.0.1/32"]`, "::ffff:10.0.0.1": `allow_cidr = ["10.0.0.1/32"]`,
		"fd12::1": `allow_cidr = ["fd12::1/128"]`, "64:ff9b::a00:1": `allow_cidr = ["10.0.0.1/32"]`,
	} {
		ap := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
		err := guard{}.check(ap)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v does not name %s", addr, err, want)
			continue
		}
		line := strings.Split(strings.SplitN(err.Error(), `["`, 2)[1], `"`)[0]
		if err := (guard{allow: []netip.Prefix{netip.MustParsePrefix(line)}}).check(ap); err != nil {
			t.Errorf("%s with that line: %v", addr, err)
		}
	}
	mapped := guard{allow: []netip.Prefix{netip.MustParsePrefix("::ffff:10.0.0.0/104")}}
	if err := mapped.check(netip.MustParseAddrPort("10.1.2.3:80")); err != nil {
		t.Errorf("a mapped prefix does not allow: %v", err)
	}
}

func TestAdminListenerIsNeverDialled(t *testing.T) {
	local := func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.IPv4(10, 0, 0, 5), Mask: net.CIDRMask(8, 32)}}, nil
	}
	unknown := func() ([]net.Addr, error) { return nil, errors.New("no") }
	for _, c := range []struct {
		admin, dialled string
		local          func() ([]net.Addr, error)
		refused        bool
	}{
		{"127.0.0.1:8481", "127.0.0.1:8481", local, true},
		{"127.0.0.1:8481", "127.0.0.1:8480", local, false},
		{"127.0.0.1:8481", "[::ffff:127.0.0.1]:8481", local, true},
		{"127.0.0.1:8481", "[64:ff9b::7f00:1]:8481", local, true},
		{"127.0.0.1:8481", "10.0.0.5:8481", local, false},
		{"10.0.0.5:8481", "10.0.0.5:8481", local, true},
		{"0.0.0.0:8481", "10.0.0.5:8481", local, true},
		{"[::]:8481", "10.0.0.5:8481", local, true},
		{"[::]:8481", "127.0.0.2:8481", local, true},
		{"[::]:8481", "10.0.0.6:8481", local, false},
		{"[::]:8481", "10.0.0.6:8481", unknown, true},
	} {
		g := guard{chosen: true, local: c.local, admin: func() netip.AddrPort { return netip.MustParseAddrPort(c.admin) }}
		if err := g.check(netip.MustParseAddrPort(c.dialled)); (err != nil) != c.refused {
			t.Errorf("admin %s, dialled %s: %v", c.admin, c.dialled, err)
		}
	}
	g := guard{chosen: true, local: local, admin: func() netip.AddrPort { return netip.AddrPort{} }}
	if err := g.check(netip.MustParseAddrPort("127.0.0.1:8481")); err != nil {
		t.Errorf("an admin listener that is not open yet: %v", err)
	}
}
