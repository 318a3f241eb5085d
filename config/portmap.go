package config

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
)

const maxLeases = 1_000_000

// A portmapTable is [gateway.portmap] as it is written.
type portmapTable struct {
	Enabled    *bool
	Protocols  Strings
	IGD        int
	Port       int
	Allow      Strings
	Deny       Strings
	Ports      string
	MaxLeases  int
	MaxClient  int
	MinLife    string
	MaxLife    string
	Ask        bool
	ThirdParty bool
}

func (t *portmapTable) field(key string) any {
	switch key {
	case "enabled":
		return &t.Enabled
	case "protocols":
		return &t.Protocols
	case "igd":
		return &t.IGD
	case "port":
		return &t.Port
	case "allow":
		return &t.Allow
	case "deny":
		return &t.Deny
	case "ports":
		return &t.Ports
	case "max_leases":
		return &t.MaxLeases
	case "max_per_client":
		return &t.MaxClient
	case "min_lifetime":
		return &t.MinLife
	case "max_lifetime":
		return &t.MaxLife
	case "ask":
		return &t.Ask
	case "third_party":
		return &t.ThirdParty
	}
	return nil
}

func portmapSheet(t *portmapTable) sheet {
	return sheet{name: "gateway.portmap", what: "port-mapping server", field: t.field, help: helpPortmap, keys: []string{
		"enabled", "protocols", "igd", "port", "allow", "deny", "ports", "max_leases", "max_per_client", "min_lifetime", "max_lifetime",
		"ask", "third_party",
	}}
}

func helpPortmap(key string) string {
	switch key {
	case "enabled":
		return "enabled is true (the default, where the table is written) or false"
	case "protocols":
		return `protocols is one or several of "upnp", "natpmp" and "pcp" (the default: all three)`
	case "igd":
		return "igd is the version of the UPnP device, 1 (the default) or 2; Windows and Xbox want 1"
	case "port":
		return "port is the TCP port of the UPnP server, from 1 to 65535; leave it out for any"
	case "allow", "deny":
		return key + ` is one or several of CLIENT [[tcp/|udp/]PORTS] [DESCRIPTION], such as "192.168.1.0/24", "aa:bb:cc:dd:ee:ff 1024-65535" or "* 22"`
	case "ports":
		return `ports is the external ports that are given, such as "1024-65535" (the default) or "3074,9000-9999"`
	case "max_leases":
		return "max_leases is how many mappings there are at once, a whole number from 1; left out, it is 20000"
	case "max_per_client":
		return "max_per_client is how many one device has at once, a whole number from 1; left out, it is 100"
	case "min_lifetime", "max_lifetime":
		return key + ` is a time from 1s to 720h, such as "2m" (the shortest, when left out) or "24h" (the longest)`
	case "ask":
		return "ask is true or false (the default): whether a mapping leads nowhere until `fairlead leases approve`"
	case "third_party":
		return "third_party is true or false (the default): whether a client may ask for mappings to another host"
	}
	return ""
}

func (r *reader) readPortmap(n *node, g *forward.Gateway) {
	t := portmapTable{IGD: unset, Port: unset, MaxLeases: unset, MaxClient: unset}
	s := portmapSheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return
	}
	bad := r.fill(n, s)
	spec, err := t.spec()
	if len(g.WAN) == 0 || len(g.LAN) == 0 {
		err = errors.Join(err, &forward.FieldError{Err: withHint{errors.New("ports are given to a LAN, and there is none"), "write wan and lan below [gateway]"}})
	}
	r.refuse(n, s, bad, err)
	if t.Enabled == nil || *t.Enabled {
		r.settings.Portmap = &spec
	}
}

// spec is the policy that t describes, its defaults filled in.
func (t portmapTable) spec() (s portmap.Spec, _ error) {
	var c checker
	var err error
	s.Protocols, err = parseList(t.Protocols, "leave the key out for all of them", parseProtocol)
	slices.Sort(s.Protocols)
	if s.Protocols = slices.Compact(s.Protocols); t.Protocols == nil {
		s.Protocols = []portmap.Protocol{portmap.NATPMP, portmap.PCP, portmap.UPnP}
	}
	c.check("protocols", err)
	s.IGD = max(1, c.number("igd", t.IGD, 2))
	s.HTTPPort = uint16(c.number("port", t.Port, 65535))
	s.Allow = c.leaseRules("allow", t.Allow)
	s.Deny = c.leaseRules("deny", t.Deny)
	if t.Ports == "" {
		t.Ports = "1024-65535"
	}
	if s.Ports, err = forward.ParsePorts(t.Ports); err == nil && s.Ports.All {
		s.Ports = forward.Ports{Ranges: []forward.Range{{First: 1, Last: 65535}}}
	}
	c.check("ports", err)
	s.MaxLeases, s.MaxClient = portmap.DefaultMaxLeases, portmap.DefaultMaxClient
	if n := c.number("max_leases", t.MaxLeases, maxLeases); n > 0 {
		s.MaxLeases = n
	}
	if n := c.number("max_per_client", t.MaxClient, maxLeases); n > 0 {
		s.MaxClient = n
	}
	s.MinLife, s.MaxLife = portmap.DefaultMinLife, portmap.DefaultMaxLife
	if d := c.span("min_lifetime", t.MinLife, time.Second, 720*time.Hour); d > 0 {
		s.MinLife = d
	}
	if d := c.span("max_lifetime", t.MaxLife, time.Second, 720*time.Hour); d > 0 {
		s.MaxLife = d
	}
	if s.MinLife > s.MaxLife {
		c.check("max_lifetime", fmt.Errorf("the longest life, %s, is less than the shortest, %s", forward.FormatDuration(s.MaxLife), forward.FormatDuration(s.MinLife)))
	}
	s.Ask, s.ThirdParty = t.Ask, t.ThirdParty
	return s, c.err()
}

func (c *checker) leaseRules(field string, list Strings) []portmap.Rule {
	rules, err := parseList(list, "leave the key out for none", portmap.ParseRule)
	if err == nil && len(rules) > maxRules {
		err = fmt.Errorf("the list has %d rules; %d is the most", len(rules), maxRules)
	}
	c.check(field, err)
	return rules
}

func parseProtocol(s string) (portmap.Protocol, error) {
	switch p := portmap.Protocol(s); p {
	case portmap.UPnP, portmap.NATPMP, portmap.PCP:
		return p, nil
	}
	return "", fmt.Errorf("%q is no port-mapping protocol", s)
}
