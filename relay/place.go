package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/fairlead-net/fairlead/forward"
)

// A place is where one listener stands. Forwards that differ only in which clients they serve share a place.
type place struct {
	node    string           // that listens
	network forward.Networks // TCP or UDP; 0 with a path
	addr    netip.Addr       // zero: every address of both families
	port    uint16
	iface   string // "" is any
	path    string // of a unix socket; then only node is set, too
	picker  string // the forward, on another node that picks the port: no two get the same
	called  called // on another node, which tells clients apart by name; here that is done client by client
}

// called is whom clients of a place on another node call: a forward.Door without its Listen, to be compared.
type called struct {
	hosts    string // with commas between them; "" is everybody
	tls      forward.TLS
	redirect bool
}

func calledAt(f *forward.Forward) called {
	if f.ListensAt() == forward.Host || len(f.Hosts) == 0 {
		return called{}
	}
	return called{strings.Join(f.Hosts, ","), f.Site.TLS, f.Site.RedirectHTTPS}
}

// door is what the node of p is asked for, where clients call names there.
func (p place) door() forward.Door {
	return forward.Door{
		Listen: forward.Listen{Networks: p.network, Addr: p.addr, Ports: forward.Ports{Ranges: []forward.Range{{First: p.port, Last: p.port}}}},
		Hosts:  strings.Split(p.called.hosts, ","), TLS: p.called.tls, RedirectHTTPS: p.called.redirect,
	}
}

// placesOf lists the places of f in a fixed order.
func placesOf(f *forward.Forward) []place {
	if f.Listen.IsUnix() {
		return []place{{node: f.ListensAt(), path: f.Listen.Path}}
	}
	var places []place
	for network := range f.Listen.Networks.Each {
		for port := range f.Listen.Ports.Each {
			p := place{
				node: f.ListensAt(), network: network, addr: f.Listen.Addr, port: port, iface: f.Interface, called: calledAt(f),
			}
			if port == 0 {
				p.picker = f.Name
			}
			places = append(places, p)
		}
	}
	return places
}

// shared reports whether several forwards can meet at p. Only ports of this host have claims that tell forwards apart.
func (p place) shared() bool { return p.node == forward.Host && p.path == "" }

// samePort reports whether p and q are for the same port and so in each other's way, unless they share it.
func (p place) samePort(q place) bool {
	return p.path == "" && q.path == "" && p.node == q.node && p.network == q.network && p.port == q.port
}

// dialect is the network and address as package net takes them.
func (p place) dialect() (network, addr string) {
	if p.path != "" {
		return "unix", p.path
	}
	network = p.network.String()
	switch {
	case !p.addr.IsValid():
		return network, ":" + strconv.Itoa(int(p.port))
	case p.addr.Is4():
		network += "4"
	default:
		network += "6"
	}
	return network, netip.AddrPortFrom(p.addr, p.port).String()
}

func (p place) String() string {
	s := "unix:" + p.path
	if p.path == "" {
		port := strconv.Itoa(int(p.port))
		s = p.network.String() + "/" + port
		if p.addr.IsValid() {
			s = p.network.String() + "/" + net.JoinHostPort(p.addr.String(), port)
		}
	}
	if p.called.hosts != "" {
		s += " for " + p.called.hosts
	}
	if p.iface != "" {
		s += " on " + p.iface
	}
	if p.node != forward.Host {
		s += " at " + p.node
	}
	return s
}

// A ListenError says why a listener could not be opened.
type ListenError struct {
	Place string // "tcp/8080", "udp/192.0.2.1:53 on eth0", "unix:/run/web.sock"
	Port  uint16 // 0 for a unix socket
	Err   error
}

func (e *ListenError) Unwrap() error { return e.Err }

func (e *ListenError) Error() string {
	switch {
	case errors.Is(e.Err, syscall.EADDRINUSE):
		return e.Place + " is in use by another program"
	case errors.Is(e.Err, syscall.EADDRNOTAVAIL):
		return e.Place + ": the address is not one of this host"
	case errors.Is(e.Err, syscall.EACCES), errors.Is(e.Err, syscall.EPERM):
		if 0 < e.Port && e.Port < 1024 {
			return e.Place + " is closed to this user: ports below 1024 need root or CAP_NET_BIND_SERVICE"
		}
		return e.Place + ": permission denied"
	case errors.Is(e.Err, syscall.EMFILE), errors.Is(e.Err, syscall.ENFILE):
		return fmt.Sprintf("%s cannot be opened: %s", e.Place, outOfDescriptors(e.Err))
	}
	return fmt.Sprintf("%s: %v", e.Place, cause(e.Err))
}

// cause strips from err what package net puts in front ("dial tcp 10.0.0.5:80: connect: "): the caller names the place in
// this program's own words.
func cause(err error) error {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	var call *os.SyscallError
	var dns *net.DNSError
	switch {
	case errors.As(err, &call):
		return call.Err
	case errors.As(err, &dns):
		return errors.New(dns.Err)
	case isTimeout(err):
		return errors.New("no answer")
	}
	return err
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
