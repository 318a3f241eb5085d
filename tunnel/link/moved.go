package link

import (
	"errors"
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/tunnel"
)

// errMoved is that a link came from an address that this host does not have any more.
var errMoved = errors.New("this host has lost the address that the link came from")

// A home is the address of this host that a link comes from. TCP stays with it, and would wait for as long as a dead link takes to be noticed
// when it is gone.
type home struct {
	link *oneLane
	addr netip.Addr
	in   func(func() error) error
}

// homeOf is where a link comes from; nil, if that is not one of this host's addresses, or the transport does not care.
func homeOf(l tunnel.Link, in func(func() error) error) *home {
	one, ok := l.(*oneLane)
	if !ok || one.tcp == nil {
		return nil
	}
	h := &home{one, addrPort(one.tcp.LocalAddr()).Addr().Unmap().WithZone(""), in}
	if h.lost() {
		return nil
	}
	return h
}

// lost reports whether this host has the address no more.
func (h *home) lost() bool {
	var all []net.Addr
	err := h.in(func() (err error) {
		all, err = net.InterfaceAddrs()
		return err
	})
	if err != nil {
		return false
	}
	for _, a := range all {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr().Unmap().WithZone("") == h.addr {
			return false
		}
	}
	return true
}

// left ends the link if its address is gone.
func (h *home) left() error {
	if h == nil || !h.lost() {
		return nil
	}
	h.link.end(errMoved)
	return errMoved
}
