package portmap

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// maxPattern is the longest pattern of a Rule, in bytes.
const maxPattern = 128

// ParseRule reads "CLIENT [[tcp/|udp/]PORTS [DESCRIPTION]]". CLIENT is an address, a network, a hardware address or *; PORTS are
// external ports, such as 80,1024-65535 or *; DESCRIPTION is a pattern in which * is any text, ? one character and [a-z] one of
// several, and may have spaces. Capital letters and small ones are the same. What is left out fits everything.
func ParseRule(s string) (Rule, error) {
	client, rest := word(s)
	ports, describe := word(rest)
	var r Rule
	var err error
	switch prefix, isAddr := parseClient(client); {
	case client == "":
		return Rule{}, errors.New("a rule begins with a client: an address, a network, a hardware address or *")
	case client == "*":
	case isAddr:
		r.Client = prefix
	default:
		if r.MAC, err = parseMAC(client); err != nil {
			return Rule{}, err
		}
	}
	if r.Networks, r.Ports, err = parseRulePorts(ports); err != nil {
		return Rule{}, err
	}
	describe = strings.ToLower(strings.TrimSpace(describe))
	switch _, err := path.Match(describe, ""); {
	case len(describe) > maxPattern:
		return Rule{}, fmt.Errorf("the description has %d bytes; %d is the most", len(describe), maxPattern)
	case !printable(describe):
		return Rule{}, fmt.Errorf("the description %q has characters that cannot be seen", describe)
	case err != nil:
		return Rule{}, fmt.Errorf("%q is no pattern: a [ has no ], or nothing follows a \\", describe)
	case strings.Trim(describe, "*") != "":
		r.Describe = describe
	}
	return r, nil
}

// word cuts s after its first word.
func word(s string) (first, rest string) {
	s = strings.TrimLeft(s, " \t")
	if at := strings.IndexAny(s, " \t"); at >= 0 {
		return s[:at], s[at:]
	}
	return s, ""
}

func parseClient(s string) (netip.Prefix, bool) {
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), true
	}
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		return p.Masked(), true
	}
	return netip.Prefix{}, false
}

func parseMAC(s string) (string, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return "", fmt.Errorf("%q is no client; write an address, a network such as 192.168.1.0/24, a hardware address such as 02:00:5e:10:00:01, or *", s)
	}
	return mac.String(), nil
}

func parseRulePorts(s string) (forward.Networks, forward.Ports, error) {
	var networks forward.Networks
	if network, after, ok := strings.Cut(s, "/"); ok {
		switch network {
		case "tcp":
			networks = forward.TCP
		case "udp":
			networks = forward.UDP
		default:
			return 0, forward.Ports{}, fmt.Errorf("%q is no protocol; write tcp/ or udp/ before the ports, or neither for both", network)
		}
		s = after
	}
	if s == "*" || s == "" && networks == 0 {
		return networks, forward.Ports{}, nil
	}
	ports, err := forward.ParsePorts(s)
	return networks, ports, err
}

func printable(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\uFFFD' }) < 0
}

// String is r the way ParseRule reads it.
func (r Rule) String() string {
	s := "*"
	switch {
	case r.MAC != "":
		s = r.MAC
	case r.Client.IsValid() && r.Client.IsSingleIP():
		s = r.Client.Addr().String()
	case r.Client.IsValid():
		s = r.Client.String()
	}
	ports := ""
	if r.Networks == forward.TCP || r.Networks == forward.UDP {
		ports = r.Networks.String() + "/"
	}
	if isAll := r.Ports.All || len(r.Ports.Ranges) == 0; !isAll {
		ports += r.Ports.String()
	} else if ports != "" || r.Describe != "" {
		ports += "*"
	}
	if ports != "" {
		s += " " + ports
	}
	if r.Describe != "" {
		s += " " + r.Describe
	}
	return s
}

// A Client is who a mapping is for, as far as rules look at it.
type Client struct {
	Addr     netip.Addr
	MAC      string // as net.HardwareAddr writes it; "" where it is not known, and then no rule with one fits
	Describe string // what the client says that the mapping is for
}

// Fits reports whether r is about c's mappings of a transport. Which ports it is about is left to Ports.
func (r Rule) Fits(c Client, network forward.Networks) bool {
	switch {
	case r.Client.IsValid() && !r.Client.Contains(c.Addr.Unmap().WithZone("")),
		r.MAC != "" && r.MAC != c.MAC,
		r.Networks != 0 && r.Networks&network == 0:
		return false
	case r.Describe == "":
		return true
	}
	// A '/' is no separator in a description, but would be one in a path.
	flat := func(s string) string { return strings.ReplaceAll(s, "/", "\x1f") }
	ok, err := path.Match(flat(r.Describe), flat(strings.ToLower(c.Describe)))
	return ok && err == nil
}
