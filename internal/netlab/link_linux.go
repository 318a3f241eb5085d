package netlab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// An End is one end of a wire: an interface of a host with its addresses.
type End struct {
	Node      *Node
	Interface string
	Addrs     []string // with the length of the network: "192.168.1.10/24", "fd00:1::10/64"

	master netlink.Link // the bridge that it is a port of, or nil
}

// Link joins two hosts by a wire (a veth pair), up and ready to use when it returns.
func (l *Lab) Link(a, b End) {
	l.tb.Helper()
	if err := l.link(a, b); err != nil {
		l.tb.Fatalf("netlab: link %s.%s to %s.%s: %v", a.Node, a.Interface, b.Node, b.Interface, err)
	}
}

func (l *Lab) link(a, b End) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = a.Interface, l.mac()
	// Never the number that the other end gets in its own namespace: the kernel tells the two ends of a veth from a plain
	// device by that, and reports the carrier of a plain device up to a second late.
	attrs.Index = 1000 + l.wires
	veth := netlink.NewVeth(attrs)
	veth.PeerName, veth.PeerHardwareAddr = b.Interface, l.mac()
	veth.PeerNamespace = netlink.NsFd(b.Node.ns)
	if err := a.Node.nl.LinkAdd(veth); err != nil {
		return err
	}
	if b.master != nil {
		port, err := b.Node.nl.LinkByName(b.Interface)
		if err == nil {
			err = b.Node.nl.LinkSetMaster(port, b.master)
		}
		if err != nil {
			return err
		}
	}
	for _, e := range []End{a, b} {
		if err := e.configure(); err != nil {
			return err
		}
	}
	for _, e := range []End{a, b} {
		if err := e.waitCarrier(); err != nil {
			return err
		}
	}
	return nil
}

// mac counts, so that captures and neighbour tables are easy to read.
func (l *Lab) mac() net.HardwareAddr {
	l.wires++
	return net.HardwareAddr{0x02, 0x00, 0x5e, 0x00, byte(l.wires >> 8), byte(l.wires)}
}

func (e End) configure() error {
	link, err := e.Node.nl.LinkByName(e.Interface)
	if err != nil {
		return err
	}
	for _, a := range e.Addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			return err
		}
		if addr.IP.To4() == nil {
			addr.Flags |= unix.IFA_F_NODAD
		}
		if err := e.Node.nl.AddrAdd(link, addr); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return e.Node.nl.LinkSetUp(link)
}

// waitCarrier waits until the interface, and the bridge that it is a port of, pass packets: the kernel tells them a moment
// after both ends are up. The routes of link-local addresses come later still.
func (e End) waitCarrier() error {
	for deadline := time.Now().Add(commandTime); ; time.Sleep(time.Millisecond) {
		link, err := e.Node.nl.LinkByName(e.Interface)
		if err != nil {
			return err
		}
		if link.Attrs().OperState == netlink.OperUp && !e.tentative(link) {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s.%s has no carrier after %v", e.Node, e.Interface, commandTime)
		}
	}
}

// tentative reports whether an address has no routes yet. Ports of a bridge have none.
func (e End) tentative(link netlink.Link) bool {
	addrs, err := e.Node.nl.AddrList(link, netlink.FAMILY_V6)
	return err == nil && slices.ContainsFunc(addrs, func(a netlink.Addr) bool { return a.Flags&unix.IFA_F_TENTATIVE != 0 })
}

// A Switch joins any number of hosts in one LAN. It is a bridge in a namespace of its own, so that no host's firewall sees
// what passes between two others.
type Switch struct {
	node   *Node
	bridge netlink.Link
	ports  int
}

// Switch makes a LAN without hosts.
func (l *Lab) Switch(name string) *Switch {
	l.tb.Helper()
	s := &Switch{node: l.Node(name)}
	snoop := false // a switch that learns about multicast groups first would hold back neighbour discovery
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	s.bridge = &netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snoop}
	if err := s.node.nl.LinkAdd(s.bridge); err != nil {
		l.tb.Fatalf("netlab: switch %s: %v", name, err)
	}
	if err := s.node.nl.LinkSetUp(s.bridge); err != nil {
		l.tb.Fatalf("netlab: switch %s: %v", name, err)
	}
	return s
}

// Attach plugs a host into the switch.
func (s *Switch) Attach(e End) {
	l := s.node.lab
	l.tb.Helper()
	s.ports++
	port := End{Node: s.node, Interface: fmt.Sprintf("port%d", s.ports), master: s.bridge}
	if err := l.link(e, port); err != nil {
		l.tb.Fatalf("netlab: attach %s.%s to %s: %v", e.Node, e.Interface, s.node, err)
	}
}

// Route sends what goes to a network ("198.51.100.0/24", or "default") through a neighbour, whose address also says which
// family is meant.
func (n *Node) Route(tb TB, to, via string) {
	tb.Helper()
	gw, err := netip.ParseAddr(via)
	if err != nil {
		tb.Fatalf("on %s: route to %s: %v", n.name, to, err)
	}
	if to == "default" {
		to = "0.0.0.0/0"
		if gw.Is6() {
			to = "::/0"
		}
	}
	_, dst, err := net.ParseCIDR(to)
	if err == nil {
		err = n.nl.RouteAdd(&netlink.Route{Dst: dst, Gw: net.IP(gw.AsSlice())})
	}
	if err != nil {
		tb.Fatalf("on %s: route to %s via %s: %v", n.name, to, via, err)
	}
}

// Address adds an address to one of the host's interfaces.
func (n *Node) Address(tb TB, iface string, addrs ...string) {
	tb.Helper()
	if err := (End{Node: n, Interface: iface, Addrs: addrs}).configure(); err != nil {
		tb.Fatalf("on %s: add %s to %s: %v", n.name, strings.Join(addrs, ", "), iface, err)
	}
}

// Readdress gives an interface addresses in place of all those it has, of both families, as when a phone changes networks. Routes
// come back whose gateway is still reached through it; the link-local address of IPv6 stays.
func (n *Node) Readdress(tb TB, iface string, addrs ...string) {
	tb.Helper()
	if err := n.readdress(iface, addrs); err != nil {
		tb.Fatalf("on %s: give %s the addresses %s: %v", n.name, iface, strings.Join(addrs, ", "), err)
	}
}

func (n *Node) readdress(iface string, addrs []string) error {
	link, err := n.nl.LinkByName(iface)
	if err != nil {
		return err
	}
	routes, err := n.nl.RouteList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	old, err := n.nl.AddrList(link, netlink.FAMILY_ALL)
	if err != nil {
		return err
	}
	for _, a := range old {
		if a.IP.IsLinkLocalUnicast() {
			continue
		}
		// One that went with the first of its network is not an error.
		if err := n.nl.AddrDel(link, &a); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("address %s: %w", a.IPNet, err)
		}
	}
	if err := (End{Node: n, Interface: iface, Addrs: addrs}).configure(); err != nil {
		return err
	}
	for _, r := range routes {
		if r.Gw == nil {
			continue // of an address, whose network has come with it
		}
		r.Src, r.Flags = nil, 0
		err := n.nl.RouteReplace(&r)
		if err != nil && !errors.Is(err, unix.ENETUNREACH) && !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("route via %s: %w", r.Gw, err)
		}
	}
	return nil
}
