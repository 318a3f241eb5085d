// Package wake wakes hosts that sleep or are switched off: Wake-on-LAN by magic packets.
//
// Nobody answers a magic packet and no one way of sending it reaches every card, so Send sends it in all ways that may: by
// broadcast on each interface, to all nodes by IPv6, to the address that the host had when it was last seen, and as a bare
// Ethernet frame where this process may do that. Whether the host wakes, how often to try and when to give up is the
// caller's affair; nothing here waits, repeats or keeps state.
package wake

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/fairlead-net/fairlead/forward"
)

// A Target is the host to wake.
type Target struct {
	MAC      forward.MAC
	Password forward.WakePassword // for SecureOn; zero: none
	// Addrs is where the host is reached when it is awake, or a broadcast address of its network behind a router. None: not known.
	Addrs []netip.Addr
	// Interface is the only one to send by. "": those whose network has one of Addrs, and all of them when there is none.
	Interface string
}

// A Copy is one copy of the magic packet and what became of it.
type Copy struct {
	Interface string // by which it was sent; "": the one that the routes of this host lead to
	To        string // "192.168.1.255:9", "[ff02::1]:7", or a MAC address: the destination of a bare Ethernet frame
	Err       error  // nil: it was sent
}

func (c Copy) failure() error {
	by := c.Interface
	if by == "" {
		by = "by route"
	}
	return fmt.Errorf("%s to %s: %w", by, c.To, c.Err)
}

// Send sends one round of magic packets. It returns every copy that it tried, and an error when none could be sent, which
// names the interfaces and the reasons. Bare Ethernet frames need CAP_NET_RAW on Linux and are left out without it.
func Send(ctx context.Context, t Target) ([]Copy, error) {
	if t.MAC == (forward.MAC{}) {
		return nil, errors.New("waking a host takes the hardware address of its network card")
	}
	all, err := links()
	if err != nil {
		return nil, fmt.Errorf("waking %s: %w", t.MAC, err)
	}
	chosen, err := choose(all, t)
	if err != nil {
		return nil, fmt.Errorf("waking %s: %w", t.MAC, err)
	}
	packet := MagicPacket(t.MAC, t.Password)
	copies := sendFrames(chosen, []forward.MAC{broadcastMAC, t.MAC}, packet)
	for _, s := range plan(chosen, t) {
		copies = append(copies, s.send(ctx, packet)...)
	}
	return copies, outcome(t, copies)
}

// outcome is the error of a round in which nothing was sent, or nil. One reason for each interface is enough.
func outcome(t Target, copies []Copy) error {
	var reasons []error
	seen := map[string]bool{}
	for _, c := range copies {
		if c.Err == nil {
			return nil
		}
		if key := c.Interface + "\x00" + c.Err.Error(); !seen[key] {
			seen[key] = true
			reasons = append(reasons, c.failure())
		}
	}
	if len(reasons) == 0 {
		reasons = []error{errNoLink}
	}
	return fmt.Errorf("no magic packet for %s could be sent: %w", t.MAC, errors.Join(reasons...))
}

var errNoLink = errors.New("no interface of this host is connected, has an address and can broadcast; name the host's address to send there by route")

// reason takes off what package net puts around the system's words: the socket's addresses say less than a Copy.
func reason(err error) error {
	if op := new(net.OpError); errors.As(err, &op) {
		err = op.Err
	}
	if call := new(os.SyscallError); errors.As(err, &call) {
		err = call.Err
	}
	return err
}
