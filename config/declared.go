package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
	nodes "github.com/fairlead-net/fairlead/node"
)

func nodeNamed(list []nodes.Spec, name string) (nodes.Spec, bool) {
	at, found := slices.BinarySearchFunc(list, name, func(s nodes.Spec, name string) int { return strings.Compare(s.Name, name) })
	if !found {
		return nodes.Spec{}, false
	}
	return list[at], true
}

// checkNode says whether a node of that name is declared; "" and "host" always are.
func checkNode(name string, list []nodes.Spec) error {
	if name == "" || name == forward.Host {
		return nil
	}
	if _, found := nodeNamed(list, name); found {
		return nil
	}
	return lateHint{fmt.Errorf("no node %q is declared", name), func() string {
		names := []string{forward.Host}
		for _, s := range list {
			names = append(names, s.Name)
		}
		hint := fmt.Sprintf("declare it: [node.%s] and below it ssh = \"user@server\"", quoteKey(name))
		if meant := nearest(name, names); meant != "" {
			hint = fmt.Sprintf("did you mean %q? Else %s", meant, hint)
		}
		return hint
	}}
}

// checkCircle says whether the way to a node comes by that node again. Of each circle one node is told of, the first by name.
func checkCircle(name string, list []nodes.Spec) error {
	way := []string{name}
	for len(way) <= len(list) {
		spec, found := nodeNamed(list, way[len(way)-1])
		if !found {
			return nil
		}
		if spec.SSH == nil {
			return nil
		}
		next := spec.SSH.Jump
		way = append(way, next)
		switch {
		case next == "" || next == forward.Host || next < name:
			return nil
		case next == name && len(way) == 2:
			return withHint{fmt.Errorf("node %q jumps over itself", name), helpNode("jump")}
		case next == name:
			return withHint{fmt.Errorf("the way leads in a circle: %s", clip(strings.Join(way, " over "), 300)), "one of them has to be dialled from this host: leave its jump out"}
		}
	}
	return nil
}

// CheckNodes says whether f may listen at and dial from its nodes: those that are declared, and where there is a hub its agents, whoever
// they are. The error is one *forward.FieldError or several joined, for Hint. Spec.Forward cannot know: it looks at the names alone.
func CheckNodes(f *forward.Forward, s Settings) error {
	var c checker
	c.check("at", s.checkAgentOrNode(f.At))
	c.check("via", s.checkAgentOrNode(f.Via))
	if len(c.errs) > 0 {
		return c.err()
	}
	at, via := s.placeCalled(f.At), s.placeCalled(f.Via)
	if at.name == "" && via.name == "" {
		return nil
	}
	for _, p := range []place{at, via} {
		if p.ssh && f.Listen.Networks&forward.UDP != 0 {
			c.check("listen", withHint{
				fmt.Errorf("node %q is an SSH server, and SSH carries no udp", p.name),
				"write listen = \"tcp/…\"; or leave udp to a forward of its own that listens at and dials from this host",
			})
			break
		}
	}
	if at.name != "" {
		c.checkFarListener(f, at)
	}
	if via.name != "" && !via.ssh {
		for i, t := range f.To {
			if t.IsUnix() {
				c.check("to", itemError{i, withHint{fmt.Errorf("it is dialled by %s, and a tunnel carries tcp and udp", via.what), "write a port of that host, such as \"127.0.0.1:80\""}})
			}
		}
	}
	if via.name != "" && len(f.Wake.MACs) > 0 {
		c.check("wake", withHint{fmt.Errorf("magic packets leave from this host, and the target is beyond node %q", via.name), "leave wake out"})
	}
	if at.name != "" && via.name != "" && f.FastOpen {
		c.check("fast_open", withHint{fmt.Errorf("%s accept and dial, and do not do so by TCP Fast Open", several(at, via)), "leave fast_open out"})
	}
	return c.err()
}

// A place is a node that a forward speaks of; the zero place is this host.
type place struct {
	name string
	ssh  bool
	what string // "an SSH server", "the hub", "another agent", "an agent of this hub"
}

func (s Settings) placeCalled(name string) place {
	if name == "" || name == forward.Host {
		return place{}
	}
	switch spec, declared := nodeNamed(s.Nodes, name); {
	case declared && spec.SSH != nil:
		return place{name, true, "an SSH server"}
	case declared && spec.Hub != nil && spec.Hub.Agent == "":
		return place{name, false, "the hub"}
	case declared:
		return place{name, false, "another agent"}
	}
	return place{name, false, "an agent of this hub"}
}

func several(a, b place) string {
	if a.ssh && b.ssh {
		return "SSH servers"
	}
	return "nodes"
}

// checkFarListener refuses what a listener on another node cannot do.
func (c *checker) checkFarListener(f *forward.Forward, at place) {
	if !at.ssh && at.what != "the hub" { // who listens there is the agent's own business
		hint := "write the forward at that agent: listen there, with via = \"hub\""
		if at.what == "another agent" {
			hint = "have the hub listen (at = \"hub\"), or write the forward at that agent"
		}
		c.check("at", withHint{fmt.Errorf("%q is %s, which listens for its own forwards alone", at.name, at.what), hint})
		return
	}
	here := fmt.Sprintf("the listener is on node %q, %s", at.name, at.what)
	if f.Interface != "" {
		server := "host"
		if at.ssh {
			server = "server"
		}
		c.check("interface", withHint{fmt.Errorf("%s, which listens on addresses and not on interfaces", here), "name an address of that " + server + " in listen"})
	}
	if f.Source == forward.SourceKeep && at.ssh { // an agent has a way back to each client: the one that the client came
		c.check("source", withHint{fmt.Errorf("%s: its clients' addresses are none that answers would find this host by", here), "leave source out, or tell the target by send_proxy = \"v2\""})
	}
	if at.ssh && len(f.Hosts) > 0 {
		c.check("host", withHint{fmt.Errorf("%s, which does not tell clients apart by name", here), "leave host out, or listen at this host or at the hub"})
	}
	if !at.ssh && f.Listen.IsUnix() {
		c.check("listen", withHint{fmt.Errorf("%s, which listens on ports for others", here), "write a port in listen"})
	}
}
