package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// What a hub is when the configuration does not say.
const (
	DefaultHubPort   = 443
	DefaultHubPorts  = "1024-65535" // where its agents may listen
	DefaultHubResume = 5 * time.Minute
	DefaultMaxAgents = 10_000

	maxHubAgents = 100_000
	maxHubResume = 24 * time.Hour
)

// Transports are how an agent can reach its hub, the best first.
func Transports() []string { return []string{"quic", "tls", "wss"} }

// A hubTable is [hub] as it is written.
type hubTable struct {
	Listen     string
	Address    string
	Ports      string
	Resume     string
	Transports Strings
	MaxAgents  int
}

func (t *hubTable) field(key string) any {
	switch key {
	case "listen":
		return &t.Listen
	case "address":
		return &t.Address
	case "ports":
		return &t.Ports
	case "resume":
		return &t.Resume
	case "transports":
		return &t.Transports
	case "max_agents":
		return &t.MaxAgents
	}
	return nil
}

func hubSheet(t *hubTable) sheet {
	return sheet{name: "hub", what: "hub", field: t.field, help: helpHub, keys: []string{"listen", "address", "ports", "resume", "transports", "max_agents"}}
}

func helpHub(key string) string {
	switch key {
	case "listen":
		return `listen is [address:]port, such as "443" (the default) or "192.0.2.1:8443", of tcp and udp`
	case "address":
		return `address is what agents call the hub by, host[:port], such as "hub.example.com"`
	case "ports":
		return `ports is where agents may listen, such as "1024-65535" (the default) or "80,443,8000-8999"`
	case "resume":
		return `resume is how long sessions wait for an agent that is away, a time from 1s to 24h, such as "5m" (the default)`
	case "transports":
		return `transports is one or several of "quic", "tls" and "wss" (the default: all three)`
	case "max_agents":
		return `max_agents is how many agents may be enrolled, a whole number from 1; left out, it is 10000`
	}
	return ""
}

func (r *reader) readHub(n *node) {
	t := hubTable{MaxAgents: unset}
	s := hubSheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return
	}
	bad := r.fill(n, s)
	hub, err := t.hub()
	r.refuse(n, s, bad, err)
	r.settings.Hub = &hub
	if err == nil {
		at := placeOf(n, &forward.FieldError{Field: "listen"})
		// Forwards with names may share the port: whoever calls none of them is the hub's.
		r.checkTie(&forward.Forward{Name: s.header(), Listen: hub.Listen, Carry: forward.CarryRelay}, at)
	}
}

// hub is the hub that t describes.
func (t hubTable) hub() (h Hub, _ error) {
	var c checker
	var err error
	if t.Listen == "" {
		t.Listen = strconv.Itoa(DefaultHubPort)
	}
	h.Listen, err = ParseHubListen(t.Listen)
	c.check("listen", err)
	if t.Address != "" {
		h.Address = t.Address
		c.check("address", CheckHubAddress(t.Address))
	}
	if t.Ports == "" {
		t.Ports = DefaultHubPorts
	}
	h.Ports, err = parseAgentPorts(t.Ports)
	c.check("ports", err)
	if h.Resume = c.span("resume", t.Resume, time.Second, maxHubResume); t.Resume == "" {
		h.Resume = DefaultHubResume
	}
	h.Transports, err = parseTransports(t.Transports)
	c.check("transports", err)
	if h.MaxAgents = c.number("max_agents", t.MaxAgents, maxHubAgents); t.MaxAgents == unset {
		h.MaxAgents = DefaultMaxAgents
	}
	return h, c.err()
}

// NewHub is a hub that listens at a place and is called by an address, "" for what is usual. The error is one *forward.FieldError or
// several joined, for HintHub.
func NewHub(listen, address string) (*Hub, error) {
	h, err := hubTable{Listen: listen, Address: address, MaxAgents: unset}.hub()
	return &h, err
}

// HintHub says what would have been right where NewHub says what is wrong.
func HintHub(err error) string { return hintOf(err, helpHub) }

// ParseHubListen reads where a hub listens: one port, of TCP and of UDP.
func ParseHubListen(s string) (forward.Listen, error) {
	if strings.Contains(s, "/") {
		if rest, ok := strings.CutPrefix(s, "tcp+udp/"); ok {
			s = rest
		} else {
			return forward.Listen{}, withHint{fmt.Errorf("%q says a protocol, and a hub listens on tcp and udp", s), "leave the protocol out; transports says what is taken"}
		}
	}
	l, err := forward.ParseListen("tcp+udp/" + s)
	switch {
	case err != nil:
		return l, err
	case l.IsUnix():
		return l, errors.New("a hub listens on a port, and not on a unix socket")
	case l.Ports.All || l.Ports.Count() != 1:
		return l, fmt.Errorf("%q are several ports; a hub has one", s)
	}
	return l, nil
}

// CheckHubAddress holds host[:port] to what agents can dial.
func CheckHubAddress(s string) error {
	if strings.Contains(s, "://") {
		return withHint{fmt.Errorf("%q is a URL", clip(s, 100)), `write it without the scheme, such as "hub.example.com:443"`}
	}
	host, port, ok := strings.Cut(s, ":")
	if addr, err := netip.ParseAddr(s); err == nil {
		host, port, ok = addr.String(), "", false
	} else if at, err := netip.ParseAddrPort(s); err == nil {
		host, port = at.Addr().String(), strconv.Itoa(int(at.Port()))
		ok = true
	}
	addr, err := netip.ParseAddr(host)
	n, wrong := strconv.ParseUint(port, 10, 16)
	if host == "" || err == nil && addr.IsUnspecified() {
		return fmt.Errorf("%q is no address that can be called", s)
	}
	switch _, err := forward.ParseTarget(hostPort(host, "1")); {
	case err != nil:
		return err
	case ok && (wrong != nil || n == 0):
		return fmt.Errorf("%q is no port; ports are 1 to 65535", port)
	}
	return nil
}

// hostPort is net.JoinHostPort, which a package without sockets does without.
func hostPort(host, port string) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + port
}

func parseAgentPorts(s string) (forward.Ports, error) {
	ports, err := forward.ParsePorts(s)
	if err == nil && ports.All {
		err = withHint{errors.New(`"*" is no list of ports`), `write "1-65535" for all of them`}
	}
	return ports, err
}

// parseTransports reads a list of transports; nil is all of them.
func parseTransports(list Strings) ([]string, error) {
	out, err := parseList(list, "leave transports out for all of them", func(s string) (string, error) {
		if !slices.Contains(Transports(), s) {
			return s, fmt.Errorf("there is no transport %q", s)
		}
		return s, nil
	})
	if err != nil {
		return nil, err
	}
	var sorted []string
	for _, known := range Transports() {
		if list == nil || slices.Contains(out, known) {
			sorted = append(sorted, known)
		}
	}
	return sorted, nil
}

// CheckHubPort says whether f is in the way of the hub h, which may be nil: its port is shared by forwards with names alone.
func CheckHubPort(f *forward.Forward, h *Hub) error {
	if h == nil || f.Disabled || f.ListensAt() != forward.Host || f.Listen.IsUnix() || f.Listen.Ports.All {
		return nil
	}
	every := func(l forward.Listen) bool { return !l.Addr.IsValid() || l.Addr.IsUnspecified() }
	port := h.Listen.Ports.Ranges[0].First
	switch {
	case !f.Listen.Ports.Contains(port) || !every(f.Listen) && !every(h.Listen) && f.Listen.Addr != h.Listen.Addr:
		return nil
	case f.ByName() && f.Listen.Networks == forward.TCP:
		return nil
	}
	return &forward.FieldError{Field: "listen", Err: withHint{fmt.Errorf("port %d is the hub's, and shared by forwards with host alone", port), "write host, or take another port"}}
}
