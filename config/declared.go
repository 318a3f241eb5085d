package config

import (
	"cmp"
	"errors"
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

// CheckNodes says whether f may listen at and dial from its nodes. The list, sorted by name, are those that are declared. The
// error is one *forward.FieldError or several joined, for Hint. Spec.Forward cannot know: it looks at the names alone.
func CheckNodes(f *forward.Forward, list []nodes.Spec) error {
	var c checker
	c.check("at", checkNode(f.At, list))
	c.check("via", checkNode(f.Via, list))
	if len(c.errs) > 0 {
		return c.err()
	}
	at, _ := nodeNamed(list, f.ListensAt())
	via, _ := nodeNamed(list, f.DialsFrom())
	switch far := cmp.Or(at.Name, via.Name); {
	case far == "": // this host; the only other kind is SSH
		return nil
	case f.Listen.Networks&forward.UDP != 0:
		c.check("listen", withHint{
			fmt.Errorf("node %q is an SSH server, and SSH carries no udp", far),
			"write listen = \"tcp/…\"; or leave udp to a forward of its own that listens at and dials from this host",
		})
	}
	if at.Name != "" {
		here := fmt.Sprintf("the listener is on node %q, an SSH server", at.Name)
		if f.Interface != "" {
			c.check("interface", withHint{fmt.Errorf("%s, which listens on addresses and not on interfaces", here), "name an address of that server in listen"})
		}
		if f.Source == forward.SourceKeep {
			c.check("source", withHint{fmt.Errorf("%s: its clients' addresses are none that answers would find this host by", here), "leave source out, or tell the target by send_proxy = \"v2\""})
		}
	}
	if via.Name != "" && len(f.Wake.MACs) > 0 {
		c.check("wake", withHint{fmt.Errorf("magic packets leave from this host, and the target is beyond node %q", via.Name), "leave wake out"})
	}
	if at.Name != "" && via.Name != "" && f.FastOpen {
		c.check("fast_open", withHint{errors.New("SSH servers accept and dial, and do not do so by TCP Fast Open"), "leave fast_open out"})
	}
	return c.err()
}
