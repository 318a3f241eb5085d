package sshd

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// placeTime is how long opening or closing a listener may take.
const placeTime = 30 * time.Second

// A placed listener is one that stands for the client.
type placed struct {
	asked sshchan.Place // with the port that was picked, if none was asked
	claim string
	name  string
	bound forward.Listen
}

// mayWait reports whether serveRequest may wait for something.
func mayWait(kind string) bool {
	switch kind {
	case sshchan.Forward, sshchan.ForwardUnix, sshchan.Cancel, sshchan.CancelUnix:
		return true
	}
	return false
}

// serveRequest answers a request. Answers have nothing but their order (RFC 4254, section 4), so it is called for one after the
// other.
func (c *client) serveRequest(ctx context.Context, r *request) {
	var err error
	switch r.kind {
	case sshchan.Forward, sshchan.ForwardUnix:
		c.servePlace(ctx, r)
		return
	case sshchan.Cancel, sshchan.CancelUnix:
		err = c.withdraw(ctx, r)
	case requestNoMoreSession:
		c.noMoreSessions.Store(true)
	default:
		err = errors.ErrUnsupported // keepalives are happy with any answer
	}
	if err != nil && !errors.Is(err, errors.ErrUnsupported) {
		if leftOut, ok := c.quiet.may(); ok {
			c.log.Warn("request refused", "request", r.kind, "error", err, keyLeftOut, leftOut)
		}
	}
	r.reply(err == nil, nil)
}

// servePlace answers before anybody is connected to the client: it knows a port that was picked from the answer alone.
func (c *client) servePlace(ctx context.Context, r *request) {
	c.node.placing.Lock()
	defer c.node.placing.Unlock()
	answer, err := c.place(ctx, r)
	if err != nil {
		if leftOut, ok := c.quiet.may(); ok {
			c.log.Warn("request refused", "request", r.kind, "error", err, keyLeftOut, leftOut)
		}
	}
	r.reply(err == nil, answer)
}

func parseAsked(r *request) (sshchan.Place, error) {
	if r.kind == sshchan.ForwardUnix || r.kind == sshchan.CancelUnix {
		return sshchan.ParseUnixRequest(r.payload)
	}
	return sshchan.ParseTCPRequest(r.payload)
}

// place has a listener opened. The answer is the port, if the client left it open.
func (c *client) place(ctx context.Context, r *request) ([]byte, error) {
	asked, err := parseAsked(r)
	if err != nil {
		return nil, err
	}
	rights, err := c.rights()
	if err != nil {
		return nil, err
	}
	if !rights.mayListen(asked) || isOneOf(asked.Path, c.server.o.ClosedSockets) {
		return nil, fmt.Errorf("to listen at %s is not permitted by the key", asked)
	}
	ctx, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	listen, err := c.listenFor(ctx, asked)
	if err != nil {
		return nil, err
	}
	// Listeners on ports that are picked are told apart by the client, too: there is nothing to take over.
	claim := listen.String()
	if asked.Path == "" && asked.Port == 0 {
		claim = fmt.Sprintf("%s of %p, %d", claim, c, c.node.next())
	} else if c.node.has(claim) {
		return nil, fmt.Errorf("the client listens at %s already", asked)
	}
	undo, ok := c.server.claims.take(c.node.key, claim, c)
	if !ok {
		return nil, fmt.Errorf("the key has %d listeners, which is the most", c.server.o.MaxListeners)
	}
	name, bound, err := c.server.o.Forwards.Put(ctx, c.node.key, forward.Door{Listen: listen}, c.node)
	if err != nil {
		undo()
		return nil, fmt.Errorf("to listen at %s: %w", asked, err)
	}
	p := &placed{asked: asked, claim: claim, name: name, bound: bound.Listen}
	var answer []byte
	if asked.Path == "" && asked.Port == 0 {
		p.asked.Port = firstPort(bound.Listen)
		answer = ssh.Marshal(sshchan.PortAnswer{Port: uint32(p.asked.Port)})
	}
	c.node.add(p)
	c.log.Info("SSH client listens", "at", bound.String(), "forward", name)
	return answer, nil
}

func firstPort(l forward.Listen) uint16 {
	if len(l.Ports.Ranges) == 0 {
		return 0
	}
	return l.Ports.Ranges[0].First
}

// withdraw closes a listener that the client no longer wants.
func (c *client) withdraw(ctx context.Context, r *request) error {
	asked, err := parseAsked(r)
	if err != nil {
		return err
	}
	p := c.node.take(asked)
	if p == nil {
		return fmt.Errorf("the client does not listen at %s", asked)
	}
	return c.remove(ctx, p)
}

func (c *client) remove(ctx context.Context, p *placed) error {
	ctx, cancel := context.WithTimeout(ctx, placeTime)
	defer cancel()
	c.server.claims.giveBack(c.node.key, p.claim, c)
	return c.server.o.Forwards.Delete(ctx, p.name, c.node)
}

// giveBack closes all that the client listens for. It does so after the connection has ended, and whether or not ctx has.
func (c *client) giveBack(ctx context.Context) {
	for _, p := range c.node.takeAll() {
		if err := c.remove(context.WithoutCancel(ctx), p); err != nil {
			c.log.Warn("a listener of a client that left was not closed", "forward", p.name, "error", err)
		}
	}
}

// ordinaryPorts begin here. Those below are for services of this host: a key has to name the one that it may have, as with
// OpenSSH nobody but root gets them.
const ordinaryPorts = 1024

// mayListen is what the key says. Hosts are compared as the client wrote them; "localhost" is what clients say when they were
// told none (sshd(8), permitlisten).
func (r *Rights) mayListen(a sshchan.Place) bool {
	low := a.Path == "" && 0 < a.Port && a.Port < ordinaryPorts
	if !r.forwarding || r.listen == nil {
		return r.forwarding && !low
	}
	return a.Path == "" && slices.ContainsFunc(r.listen, func(p place) bool {
		return (p.port == 0 && !low || p.port == a.Port) && matchPattern(strings.ToLower(a.Host), p.host)
	})
}

// listenFor is where a client listens that asked for a, as GatewayPorts has it (sshd_config(5)).
func (c *client) listenFor(ctx context.Context, a sshchan.Place) (forward.Listen, error) {
	if a.Path != "" {
		return forward.Listen{Path: a.Path}, nil
	}
	l := forward.Listen{Networks: forward.TCP, Ports: forward.Ports{Ranges: []forward.Range{{First: a.Port, Last: a.Port}}}}
	var err error
	l.Addr, err = gatewayAddr(ctx, c.server.o.GatewayPorts, a.Host, c.server.o.Lookup)
	return l, err
}

// The addresses that clients reach from this host alone.
var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// gatewayAddr is the address for a host that a client asked for; zero is every address. "localhost" is 127.0.0.1.
func gatewayAddr(ctx context.Context, gatewayPorts, host string, lookup func(context.Context, string) ([]netip.Addr, error)) (netip.Addr, error) {
	addr, err := netip.ParseAddr(host)
	addr = addr.Unmap()
	switch {
	case gatewayPorts == "yes":
		return netip.Addr{}, nil
	case gatewayPorts == "no":
		if addr == loopback4 || addr == loopback6 {
			return addr, nil
		}
		return loopback4, nil
	case host == "" || host == "*":
		return netip.Addr{}, nil
	case strings.EqualFold(host, "localhost"):
		return loopback4, nil
	case err == nil:
		return addr.WithZone(""), nil
	}
	addrs, err := lookup(ctx, host)
	if err != nil {
		return netip.Addr{}, err
	}
	if len(addrs) == 0 {
		return netip.Addr{}, fmt.Errorf("%s has no address", host)
	}
	return addrs[0].Unmap().WithZone(""), nil
}
