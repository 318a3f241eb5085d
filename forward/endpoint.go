package forward

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Networks is the set of transport protocols that a listener takes.
type Networks uint8

// The transport protocols. The numbers are flags of this program, not IP protocol numbers.
const (
	TCP Networks = 1 << iota
	UDP
)

// Each calls yield for every single protocol in n, TCP first.
func (n Networks) Each(yield func(Networks) bool) {
	for _, one := range []Networks{TCP, UDP} {
		if n&one != 0 && !yield(one) {
			return
		}
	}
}

func (n Networks) String() string {
	switch n {
	case TCP:
		return "tcp"
	case UDP:
		return "udp"
	case TCP | UDP:
		return "tcp+udp"
	}
	return "none"
}

// Listen is where a forward listens: ports of this host, of one address, or a unix socket.
type Listen struct {
	Networks Networks
	Addr     netip.Addr // zero: every address of the node; 0.0.0.0 or ::: every address of that family
	Ports    Ports
	Path     string // of a unix stream socket; then nothing else is set
}

// IsUnix reports whether l is a unix socket.
func (l Listen) IsUnix() bool { return l.Path != "" }

// Equal reports whether l and m are the same place.
func (l Listen) Equal(m Listen) bool {
	return l.Networks == m.Networks && l.Addr == m.Addr && l.Path == m.Path && l.Ports.Equal(m.Ports)
}

// String is l the way ParseListen reads it.
func (l Listen) String() string {
	if l.IsUnix() {
		return "unix:" + l.Path
	}
	s := l.Networks.String() + "/"
	switch {
	case !l.Addr.IsValid():
	case l.Addr.Is4():
		s += l.Addr.String() + ":"
	default:
		s += "[" + l.Addr.String() + "]:"
	}
	return s + l.Ports.String()
}

// ParseListen reads "[tcp/ | udp/ | tcp+udp/][address:]ports", tcp when left out, or "unix:/path".
func ParseListen(s string) (Listen, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if err := checkPath(path); err != nil {
			return Listen{}, err
		}
		return Listen{Path: path}, nil
	}
	l := Listen{Networks: TCP}
	rest := s
	if network, after, ok := strings.Cut(s, "/"); ok {
		switch network {
		case "tcp":
		case "udp":
			l.Networks = UDP
		case "tcp+udp", "udp+tcp":
			l.Networks = TCP | UDP
		default:
			return Listen{}, fmt.Errorf("%q is no protocol; write tcp/, udp/ or tcp+udp/ before the port", network)
		}
		rest = after
	}
	addr, ports, err := splitAddr(rest)
	if err != nil {
		return Listen{}, err
	}
	if addr != "" {
		if l.Addr, err = netip.ParseAddr(addr); err != nil {
			return Listen{}, fmt.Errorf("%q is no IP address; listen takes an address of this host, such as 192.0.2.1:80 or [2001:db8::1]:80, or just a port", addr)
		}
		if l.Addr.Zone() != "" {
			return Listen{}, fmt.Errorf("%q has a zone; leave it out and set interface = %q", addr, l.Addr.Zone())
		}
		if l.Addr.IsMulticast() {
			return Listen{}, fmt.Errorf("%s is a multicast address; a forward listens on an address of one host", addr)
		}
		l.Addr = l.Addr.Unmap()
	}
	l.Ports, err = ParsePorts(ports)
	return l, err
}

// A Target is where a forward leads: an address or host name with or without a port, a port of this host, or a unix socket.
type Target struct {
	Addr  netip.Addr // zero with Host "" and Path "": this host
	Host  string     // a name to look up on the node that dials; then Addr is zero
	Ports Range      // zero: the port that the client came to
	Path  string     // of a unix stream socket; then nothing else is set
	Head  Head       // each client says where it leads; then nothing else is set
}

// IsUnix reports whether t is a unix socket.
func (t Target) IsUnix() bool { return t.Path != "" }

// IsLocal reports whether t is a port of this host written without an address (":8443").
func (t Target) IsLocal() bool {
	return t.Path == "" && t.Host == "" && !t.Addr.IsValid() && t.Head == HeadNone
}

// String is t the way ParseTarget reads it.
func (t Target) String() string {
	if t.IsUnix() {
		return "unix:" + t.Path
	}
	if t.Head != HeadNone {
		return t.Head.String()
	}
	host := t.Host
	if t.Addr.IsValid() {
		host = t.Addr.String()
	}
	if t.Ports.IsZero() {
		return host
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + t.Ports.String()
}

// ParseTarget reads "host[:ports]", ":port" (this host) or "unix:/path". A host is an IPv4 address, an IPv6 address
// (bracketed when a port follows) or a name; ports are one port or one range. "socks", "http" and "proxy" are heads.
func ParseTarget(s string) (Target, error) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if err := checkPath(path); err != nil {
			return Target{}, err
		}
		return Target{Path: path}, nil
	}
	if head := headOf(s); head != HeadNone {
		return Target{Head: head}, nil
	}
	if s == "" {
		return Target{}, errors.New("the target is empty; write it like 192.168.1.10:8080")
	}
	if strings.Contains(s, "/") {
		return Target{}, fmt.Errorf("%q has a '/'; the protocol is said in listen, the target is host:port or unix:/path", s)
	}
	host, ports := s, ""
	if addr, err := netip.ParseAddr(s); err == nil {
		host = addr.String()
	} else if strings.HasPrefix(s, "[") || strings.Contains(s, ":") {
		if host, ports, err = splitAddr(s); err != nil {
			return Target{}, err
		}
		if ports == "" && !strings.HasSuffix(s, "]") {
			return Target{}, fmt.Errorf("%q ends where its port should be", s)
		}
	}
	var t Target
	if ports != "" {
		list, err := ParsePorts(ports)
		if err != nil {
			return Target{}, err
		}
		if list.All || len(list.Ranges) != 1 {
			return Target{}, fmt.Errorf("a target has one port or one range, not %q", ports)
		}
		t.Ports = list.Ranges[0]
	}
	if host == "" {
		return t, nil
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		t.Addr = addr.Unmap()
		switch {
		case t.Addr.IsUnspecified():
			return Target{}, fmt.Errorf("%s is no host to lead to; write %q for a port of this host", host, ":"+cmp.Or(ports, "8080"))
		case t.Addr.IsMulticast():
			return Target{}, fmt.Errorf("%s is a multicast address; a target is one host", host)
		}
		return t, nil
	}
	if err := checkHostname(host); err != nil {
		return Target{}, err
	}
	t.Host = host
	return t, nil
}

// splitAddr cuts "address:ports" at the colon before the ports; an address alone on the left may be missing.
func splitAddr(s string) (addr, ports string, err error) {
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", "", fmt.Errorf("%q opens a bracket and does not close it", s)
		}
		if end == 1 {
			return "", "", fmt.Errorf("%q has no address in its brackets", s)
		}
		rest := s[end+1:]
		if rest == "" {
			return s[1:end], "", nil
		}
		if rest[0] != ':' {
			return "", "", fmt.Errorf("%q: after ']' comes ':' and the port", s)
		}
		return s[1:end], rest[1:], nil
	}
	at := strings.LastIndexByte(s, ':')
	if at < 0 {
		return "", s, nil
	}
	if strings.IndexByte(s[:at], ':') >= 0 {
		return "", "", fmt.Errorf("%q: an IPv6 address before a port stands in brackets, such as [2001:db8::1]:80", s)
	}
	return s[:at], s[at+1:], nil
}

// checkPath holds a unix socket path to what sockaddr_un can carry (unix(7): 108 bytes with the closing zero).
func checkPath(path string) error {
	switch {
	case path == "":
		return errors.New("unix: needs a path, such as unix:/run/app.sock")
	case path[0] != '/':
		return fmt.Errorf("%q is not an absolute path; write unix:/…", path)
	case len(path) > 107:
		return fmt.Errorf("the path of a unix socket has at most 107 bytes, this one has %d", len(path))
	case strings.IndexByte(path, 0) >= 0:
		return fmt.Errorf("%q has a zero byte", path)
	}
	return nil
}

// checkHostname holds a name to letters, digits, '-', '_' and dots (RFC 1123, section 2.1, and '_' as resolvers take it).
func checkHostname(name string) error {
	if len(name) > 253 {
		return fmt.Errorf("the host name is %d bytes long; 253 is the most", len(name))
	}
	digits := true
	for label := range strings.SplitSeq(strings.TrimSuffix(name, "."), ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("%q is neither an IP address nor a host name", name)
		}
		for _, c := range []byte(label) {
			letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || c == '-' || c == '_'
			digits = digits && !letter
			if !letter && (c < '0' || c > '9') {
				return fmt.Errorf("%q is neither an IP address nor a host name", name)
			}
		}
	}
	if digits {
		return fmt.Errorf("%q looks like an IP address but is none", name)
	}
	return nil
}
