package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// A Rule is some destinations: "db.internal", "*.example.com", "10.0.0.0/8", "192.0.2.7:443", "[2001:db8::]/32:80-89" or
// "*:443".
type Rule struct {
	Host   string       // a name in lower case, or "*.example.com" for all below it, or "*"; "" with a Prefix
	Prefix netip.Prefix // masked; zero with a Host
	Ports  Range        // zero: all
}

// ParseRule reads a rule. A name stands for itself alone, "*.example.com" for every name below it, and "*" for everything.
func ParseRule(s string) (Rule, error) {
	host, ports, err := cutPorts(s)
	if err != nil {
		return Rule{}, err
	}
	var r Rule
	if ports != "" && ports != "*" {
		list, err := ParsePorts(ports)
		if err != nil {
			return Rule{}, err
		}
		if list.All || len(list.Ranges) != 1 {
			return Rule{}, fmt.Errorf("a rule has one port or one range, not %q", ports)
		}
		r.Ports = list.Ranges[0]
	}
	switch {
	case host == "":
		return Rule{}, errors.New("a rule needs a host, a network or \"*\"")
	case host == "*":
		r.Host = host
		return r, nil
	}
	if strings.ContainsAny(host, "/:") || isAddr(host) {
		r.Prefix, err = parsePrefix(host)
		return r, err
	}
	r.Host = strings.ToLower(strings.TrimSuffix(host, "."))
	if err := checkHostname(strings.TrimPrefix(r.Host, "*.")); err != nil {
		return Rule{}, err
	}
	if strings.HasSuffix(r.Host, ".") {
		return Rule{}, fmt.Errorf("%q is neither an IP address nor a host name", host)
	}
	return r, nil
}

func isAddr(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// parsePrefix reads an address or a network. IPv4 in IPv6 becomes IPv4, which is how destinations are compared.
func parsePrefix(s string) (netip.Prefix, error) {
	if strings.Contains(s, "%") {
		return netip.Prefix{}, fmt.Errorf("%q has a zone; leave it out", s)
	}
	if addr, err := netip.ParseAddr(s); err == nil {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no network; write it like 10.0.0.0/8 or [2001:db8::]/32", s)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, fmt.Errorf("%q is an address within a network; write %s for the network, or %s for the one address", s, m, p.Addr())
	}
	return p, nil
}

// cutPorts cuts "host:ports". A host that is IPv6 stands in brackets when ports follow; a network has its length behind the
// bracket.
func cutPorts(s string) (host, ports string, err error) {
	if strings.HasPrefix(s, "[") {
		addr, rest, ok := strings.Cut(s[1:], "]")
		length, ports, found := strings.Cut(rest, ":")
		switch {
		case !ok:
			return "", "", fmt.Errorf("%q opens a bracket and does not close it", s)
		case !strings.Contains(addr, ":"):
			return "", "", fmt.Errorf("%q: brackets are for IPv6 addresses", s)
		case length != "" && length[0] != '/':
			return "", "", fmt.Errorf("%q: after ']' comes ':' and the port, or '/' and the length of the network", s)
		case found && ports == "":
			return "", "", fmt.Errorf("%q ends where its port should be", s)
		}
		return addr + length, ports, nil
	}
	if strings.Count(s, ":") > 1 {
		return s, "", nil // IPv6
	}
	host, ports, found := strings.Cut(s, ":")
	if found && ports == "" {
		return "", "", fmt.Errorf("%q ends where its port should be", s)
	}
	return host, ports, nil
}

// String is r the way ParseRule reads it.
func (r Rule) String() string {
	s := r.Host
	if r.Prefix.IsValid() {
		s = r.Prefix.String()
		if r.Prefix.IsSingleIP() {
			s = r.Prefix.Addr().String()
		}
	}
	if r.Ports.IsZero() {
		return s
	}
	if r.Prefix.IsValid() && r.Prefix.Addr().Is6() {
		addr, length, network := strings.Cut(s, "/")
		if s = "[" + addr + "]"; network {
			s += "/" + length
		}
	}
	return s + ":" + r.Ports.String()
}

// Matches reports whether a destination is one of r's: host is the name as the client wrote it, "" when it wrote an
// address, and addr the address that is dialled, zero when it is not known yet.
func (r Rule) Matches(host string, addr netip.Addr, port uint16) bool {
	if !r.Ports.IsZero() && !r.Ports.Contains(port) {
		return false
	}
	switch {
	case r.Prefix.IsValid():
		return addr.IsValid() && r.Prefix.Contains(addr.Unmap().WithZone(""))
	case r.Host == "*":
		return true
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if below, ok := strings.CutPrefix(r.Host, "*"); ok {
		return strings.HasSuffix(host, below) && len(host) > len(below)
	}
	return host == r.Host
}

// A Policy is where clients may go. Deny goes before Permit; without Permit everything is permitted that is not denied.
type Policy struct{ Permit, Deny []Rule }

// Equal reports whether p and q are the same policy.
func (p Policy) Equal(q Policy) bool {
	return slices.Equal(p.Permit, q.Permit) && slices.Equal(p.Deny, q.Deny)
}

// A Verdict is what a Policy says about one destination.
type Verdict uint8

// The verdicts.
const (
	Denied    Verdict = iota
	Open              // nothing speaks against it; a rule of Permit that is about everything ("*") does not name it either
	Permitted         // a rule of Permit names it
)

// Judge says what p says about a destination; the arguments are those of Rule.Matches.
func (p Policy) Judge(host string, addr netip.Addr, port uint16) Verdict {
	matches := func(r Rule) bool { return r.Matches(host, addr, port) }
	names := func(r Rule) bool { return r.Host != "*" && matches(r) }
	switch {
	case slices.ContainsFunc(p.Deny, matches):
		return Denied
	case slices.ContainsFunc(p.Permit, names):
		return Permitted
	case len(p.Permit) > 0 && !slices.ContainsFunc(p.Permit, matches):
		return Denied
	}
	return Open
}

// JudgeName is Judge for a name that somebody else looks up, so that nobody here knows its address. A rule of Deny for a
// network might be about it, and then only a rule of Permit for that name speaks for it.
func (p Policy) JudgeName(host string, port uint16) Verdict {
	v := p.Judge(host, netip.Addr{}, port)
	named := func(r Rule) bool { return r.Host != "*" && r.Matches(host, netip.Addr{}, port) }
	about := func(r Rule) bool { return r.Prefix.IsValid() && (r.Ports.IsZero() || r.Ports.Contains(port)) }
	if v != Denied && slices.ContainsFunc(p.Deny, about) && !slices.ContainsFunc(p.Permit, named) {
		return Denied
	}
	return v
}

// IsInward reports whether addr belongs to this host or to networks that are not the public internet: loopback, private,
// link-local, shared (RFC 6598), multicast and unspecified addresses, a NAT64 of one's own,
// and IPv4 ones embedded in NAT64 (RFC 6052) or 6to4.
func IsInward(addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	if inner, ok := embedded(addr); ok {
		return IsInward(inner)
	}
	return !addr.IsValid() || addr.IsLoopback() || addr.IsPrivate() || addr.IsLinkLocalUnicast() || addr.IsMulticast() ||
		addr.IsUnspecified() || shared.Contains(addr) || localNAT64.Contains(addr) || siteLocal.Contains(addr) || addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}) || thisNetwork.Contains(addr)
}

// IsInwardName reports whether a name is one that resolvers take for the machine that they run on, or for an IPv4 address
// that is not written as one: inet_aton(3) reads 127.1, 0x7f.1 and 2130706433. Of every other name only a resolver knows.
func IsInwardName(name string) bool {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	last := name[strings.LastIndexByte(name, '.')+1:]
	hex, isHex := strings.CutPrefix(last, "0x")
	switch {
	case isHex && strings.Trim(hex, "0123456789abcdef") == "", last != "" && strings.Trim(last, "0123456789") == "":
		return true // no top-level domain is a number (RFC 3696, section 2)
	case last == "localhost": // and all below it (RFC 6761, section 6.3)
		return true
	}
	return slices.Contains(localNames, name)
}

// localNames are those of /etc/hosts as distributions write it.
var localNames = []string{"localhost.localdomain", "localhost4", "localhost6", "localhost4.localdomain4", "localhost6.localdomain6", "ip6-localhost", "ip6-loopback"}

var (
	shared      = netip.MustParsePrefix("100.64.0.0/10")
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")
	nat64       = netip.MustParsePrefix("64:ff9b::/96")
	localNAT64  = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215: an operator's own, with addresses in it of any form
	siteLocal   = netip.MustParsePrefix("fec0::/10")      // RFC 3879: deprecated, and in use here and there
	sixToFour   = netip.MustParsePrefix("2002::/16")
)

// embedded is the IPv4 address that an IPv6 one leads to.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	b := addr.As16()
	switch {
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}
