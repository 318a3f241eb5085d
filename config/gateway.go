package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

const (
	maxInterfaces  = 64
	maxGatewayOpen = 1000
)

// A gatewayTable is [gateway] as it is written, but for [gateway.portmap].
type gatewayTable struct {
	WAN         Strings
	LAN         Strings
	Masquerade  *bool
	SNAT        Strings
	Protect     *bool
	Open        Strings
	Independent bool
	ClampMSS    *bool
	Helpers     Strings
	Coexist     string
}

func (t *gatewayTable) field(key string) any {
	switch key {
	case "wan":
		return &t.WAN
	case "lan":
		return &t.LAN
	case "masquerade":
		return &t.Masquerade
	case "snat":
		return &t.SNAT
	case "protect":
		return &t.Protect
	case "open":
		return &t.Open
	case "endpoint_independent":
		return &t.Independent
	case "clamp_mss":
		return &t.ClampMSS
	case "helpers":
		return &t.Helpers
	case "coexist":
		return &t.Coexist
	}
	return nil
}

func gatewaySheet(t *gatewayTable) sheet {
	return sheet{name: "gateway", what: "gateway", field: t.field, help: helpGateway, keys: []string{
		"wan", "lan", "masquerade", "snat", "protect", "open", "endpoint_independent", "clamp_mss", "helpers", "coexist", "portmap",
	}}
}

func helpGateway(key string) string {
	switch key {
	case "wan":
		return `wan is the interface to the outside, such as "eth0" or "ppp*", or a list of them`
	case "lan":
		return `lan is the interface of those that this host is the gateway of, such as "br0", or a list of them`
	case "masquerade":
		return "masquerade is true (the default) or false: whether the LAN leaves with the address of the WAN interface"
	case "snat":
		return `snat is the address that the LAN leaves with, such as "203.0.113.7", or a list with one of each IP family`
	case "protect":
		return "protect is true (the default) or false: whether the WAN reaches only what forwards, leases and open let in"
	case "open":
		return `open is [tcp/|udp/|tcp+udp/][address:]ports of this host that the WAN reaches, such as "22" or "udp/51820", or a list of them`
	case "endpoint_independent":
		return "endpoint_independent is true or false (the default): whether whoever was sent to from a port may be answered from anywhere (RFC 4787)"
	case "clamp_mss":
		return "clamp_mss is true (the default) or false: whether TCP is kept from sending larger segments than the WAN takes"
	case "helpers":
		return `helpers is one or several of "ftp", "sip", "tftp", "irc", "pptp", "h323" and "amanda", for what the LAN starts`
	case "coexist":
		return `coexist is "report" (the default) or "auto": whether forwards are let through by other firewalls of this host where these have a place for it`
	case "portmap":
		return "the keys of the port-mapping server stand below [gateway.portmap]"
	}
	return ""
}

// A dmzTable is [dmz] as it is written.
type dmzTable struct{ Interfaces Strings }

func (t *dmzTable) field(key string) any {
	if key == "interfaces" {
		return &t.Interfaces
	}
	return nil
}

func dmzSheet(t *dmzTable) sheet {
	return sheet{name: "dmz", what: "DMZ", field: t.field, keys: []string{"interfaces"}, help: func(string) string {
		return `interfaces is the interface of the hosts that only forwards lead to, such as "br1", or a list of them`
	}}
}

// readGateway reads [gateway] and [dmz], one of which may be missing.
func (r *reader) readGateway(n, dmz *node) {
	var g *forward.Gateway
	var bad told
	if n != nil {
		g, bad = r.readRouter(n)
	}
	if dmz != nil {
		r.readDMZ(dmz, g)
	}
	if g == nil {
		return
	}
	r.settings.Gateway = g
	for err := range each(g.Validate()) {
		var field *forward.FieldError
		if errors.As(err, &field) && field.Field == "dmz" && dmz != nil {
			r.refuse(dmz, dmzSheet(new(dmzTable)), nil, &forward.FieldError{Field: "interfaces", Err: field.Err})
		} else {
			r.refuse(n, gatewaySheet(new(gatewayTable)), bad, err)
		}
	}
}

// readRouter is what [gateway] says, nil where that does not make this host a router, and the keys that have been told of.
func (r *reader) readRouter(n *node) (*forward.Gateway, told) {
	t := gatewayTable{}
	s := gatewaySheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return nil, nil
	}
	own := *n
	own.children, own.byName = nil, nil
	var grants *node
	for _, c := range n.children {
		if c.name == "portmap" {
			grants = c
		} else {
			own.addChild(c)
		}
	}
	bad := r.fill(&own, s)
	g, err := t.gateway()
	r.refuse(&own, s, bad, err)
	if t.Coexist == "auto" {
		r.settings.Coexist = CoexistAuto
	}
	if grants != nil {
		r.readPortmap(grants, &g)
	}
	if t.Coexist != "" && !t.says() && grants == nil {
		return nil, nil // it only says how to get along with others
	}
	for err := range each(err) {
		if bad == nil {
			bad = told{}
		}
		var field *forward.FieldError
		if errors.As(err, &field) {
			bad[field.Field] = true
		}
	}
	return &g, bad
}

// gateway is the gateway that t describes, as far as each key tells by itself.
func (t gatewayTable) gateway() (g forward.Gateway, _ error) {
	var c checker
	g.WAN, g.LAN = c.interfaces("wan", t.WAN), c.interfaces("lan", t.LAN)
	var err error
	g.SNAT, err = parseList(t.SNAT, "leave the key out to masquerade", parseSNAT)
	c.check("snat", err)
	v4 := slices.ContainsFunc(g.SNAT, netip.Addr.Is4)
	if g.Masquerade = t.Masquerade == nil && !v4 || t.Masquerade != nil && *t.Masquerade; t.Masquerade != nil && *t.Masquerade && v4 {
		c.check("masquerade", withHint{errors.New("the LAN leaves with the address of snat or with that of the interface"), "leave one of masquerade and snat out"})
	}
	g.Protect = t.Protect == nil || *t.Protect
	g.ClampMSS = t.ClampMSS == nil || *t.ClampMSS
	g.Independent = t.Independent
	g.Open, err = parseList(t.Open, "leave the key out when the WAN reaches nothing of this host", parseOpen)
	if err == nil && len(g.Open) > maxGatewayOpen {
		err = fmt.Errorf("the list has %d items; %d is the most", len(g.Open), maxGatewayOpen)
	}
	c.check("open", err)
	g.Helpers, err = parseList(t.Helpers, "leave the key out for none", parseHelper)
	slices.Sort(g.Helpers)
	g.Helpers = slices.Compact(g.Helpers)
	c.check("helpers", err)
	switch t.Coexist {
	case "", "report", "auto":
	default:
		c.check("coexist", fmt.Errorf("%q is not known here", t.Coexist))
	}
	return g, c.err()
}

// says reports whether t says anything of a router.
func (t gatewayTable) says() bool {
	return t.WAN != nil || t.LAN != nil || t.Masquerade != nil || t.SNAT != nil || t.Protect != nil || t.Open != nil || t.Independent || t.ClampMSS != nil || t.Helpers != nil
}

func (r *reader) readDMZ(n *node, g *forward.Gateway) {
	var t dmzTable
	s := dmzSheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return
	}
	bad := r.fill(n, s)
	var c checker
	list := c.interfaces("interfaces", t.Interfaces)
	switch {
	case t.Interfaces == nil:
		c.check("interfaces", errors.New("a DMZ needs to know its interfaces"))
	case g == nil:
		c.check("", withHint{errors.New("a DMZ is a network of a gateway, and there is none"), `write [gateway] and below it wan and lan`})
	default:
		g.DMZ = list
	}
	r.refuse(n, s, bad, c.err())
}

// interfaces reads names of interfaces, each of which may end in a *.
func (c *checker) interfaces(field string, list Strings) []string {
	names, err := parseList(list, "leave the key out, or name one", func(s string) (string, error) { return s, forward.CheckInterface(s) })
	if err == nil && len(names) > maxInterfaces {
		err = fmt.Errorf("the list has %d interfaces; %d is the most", len(names), maxInterfaces)
	}
	c.check(field, err)
	slices.Sort(names)
	return slices.Compact(names)
}

func parseSNAT(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	addr = addr.Unmap()
	switch {
	case err != nil:
		return addr, fmt.Errorf("%q is no IP address", s)
	case addr.Zone() != "" || !addr.IsGlobalUnicast():
		return addr, fmt.Errorf("%s is no address that a host can be answered at", s)
	}
	return addr, nil
}

func parseOpen(s string) (forward.Listen, error) {
	l, err := forward.ParseListen(s)
	switch {
	case err != nil:
		return l, err
	case l.IsUnix():
		return l, errors.New("a unix socket is not reached from the WAN")
	case l.Ports.All:
		return l, withHint{errors.New(`"*" would be everything`), "write protect = false for a WAN that reaches everything of this host"}
	}
	return l, nil
}

func parseHelper(s string) (forward.Helper, error) {
	h, err := forward.ParseHelper(s)
	if err != nil || h == forward.HelperNone {
		return h, fmt.Errorf("there is no helper %q", s)
	}
	return h, nil
}
