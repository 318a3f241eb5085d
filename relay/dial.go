package relay

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

const (
	// dialTimeout is how long the only target, or the last one left, may take to answer. Linux sends its fourth SYN after
	// 7 s, so three lost ones are forgiven.
	dialTimeout = 10 * time.Second
	// dialTimeoutEach is how long a target may take while there is another one to try: two lost SYNs.
	dialTimeoutEach = 4 * time.Second
)

// A DialError says why a target could not be reached.
type DialError struct {
	Target string // the address that was dialled
	Err    error

	silent []forward.Target // those that may be asleep
}

func (e *DialError) Error() string { return fmt.Sprintf("target %s: %v", e.Target, cause(e.Err)) }
func (e *DialError) Unwrap() error { return e.Err }

// A dialled is a target that answered.
type dialled struct {
	conn   net.Conn
	target *forward.Target
	where  string // as people see it
}

// dialTargets reaches the first target of f that answers a client who came to port. The error is the last target's.
func (r *Relay) dialTargets(ctx context.Context, s *session, f *forward.Forward) (dialled, error) {
	dial, err := r.dialer(s, f)
	if err != nil {
		return dialled{}, err
	}
	order := s.task.order(f, s.client.Addr(), s.network)
	switch len(order) {
	case 0:
		return dialled{}, errDraining
	case 1:
		return dialTarget(ctx, dial, s, &order[0], dialTime(f, true))
	}
	return r.raceTargets(ctx, dial, s, order)
}

// dialTarget tries the addresses of one target in turn, each for so long, and notes it when none answers.
func dialTarget(ctx context.Context, dial dialFunc, s *session, to *forward.Target, timeout time.Duration) (dialled, error) {
	var last *DialError
	for _, a := range s.addresses(to) {
		conn, err := dialOne(ctx, dial, a, timeout)
		if err == nil {
			return dialled{conn, to, reached(conn, a)}, nil
		}
		if ctx.Err() != nil {
			return dialled{}, ctx.Err()
		}
		last = &DialError{Target: a.String(), Err: err}
		if isSilent(err) {
			last.silent = []forward.Target{*to}
		}
		if isScarce(err) {
			return dialled{}, last // the next one needs a descriptor, too
		}
	}
	s.task.failed(s, to, last.Err)
	return dialled{}, last
}

// dialer is how a session of f dials.
func (r *Relay) dialer(s *session, f *forward.Forward) (dialFunc, error) {
	n, err := r.nodes(f.DialsFrom())
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", f.DialsFrom(), err)
	}
	_, s.oneDoor = n.(node.Doorway)
	if from := s.from(f); from.IsValid() {
		sources, ok := n.(node.SourceNode)
		if !ok {
			return nil, fmt.Errorf("node %s dials from its own addresses only", f.DialsFrom())
		}
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			return sources.DialFrom(ctx, from, network, addr)
		}, nil
	}
	if s.network != forward.UDP {
		return s.dialFor(n), nil
	}
	if far, ok := n.(node.PacketIntroducer); ok {
		return func(ctx context.Context, network, addr string) (net.Conn, error) {
			return far.DialPacketFor(ctx, s.client, network, addr)
		}, nil
	}
	packets, ok := n.(node.PacketNode)
	if !ok {
		return nil, fmt.Errorf("node %s carries no udp", f.DialsFrom())
	}
	return packets.DialPacket, nil
}

// dialTime is how long a target of f may take to answer.
func dialTime(f *forward.Forward, last bool) time.Duration {
	switch {
	case len(f.Wake.MACs) > 0:
		return min(wakeDialTime, cmp.Or(f.ConnectTimeout, wakeDialTime))
	case f.ConnectTimeout > 0:
		return f.ConnectTimeout
	case last:
		return dialTimeout
	}
	return dialTimeoutEach
}

// A dialFunc is a Node's Dial or DialPacket.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

func dialOne(ctx context.Context, dial dialFunc, a address, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return dial(ctx, a.network, a.addr)
}

// reached is the address that a session is shown with: where a name led, if conn tells.
func reached(conn net.Conn, a address) string {
	if to := conn.RemoteAddr(); to != nil && a.network != "unix" {
		if _, err := netip.ParseAddrPort(to.String()); err == nil {
			return to.String()
		}
	}
	return a.String()
}

// An address is what a node dials.
type address struct{ network, addr string }

func (a address) String() string {
	if a.network == "unix" {
		return "unix:" + a.addr
	}
	return a.addr
}

// addresses lists what to dial for a target of the session's forward.
func (s *session) addresses(to *forward.Target) []address {
	list := addresses(*to, s.f.TargetPort(*to, s.place.port), s)
	if s.oneDoor {
		list = list[:1]
	}
	return list
}

// addresses lists what to dial for t, in order. A port of this host is sought on the loopback address of the client's
// family and then on the other, because a program may listen on one of them alone. A datagram gets no answer from a
// port without a program in time for a second try.
func addresses(t forward.Target, port uint16, s *session) []address {
	if t.IsUnix() {
		return []address{{"unix", t.Path}}
	}
	network := "tcp"
	if s.network == forward.UDP {
		network = "udp"
	}
	text := strconv.Itoa(int(port))
	switch {
	case t.Addr.IsValid():
		return []address{{network, net.JoinHostPort(t.Addr.String(), text)}}
	case t.Host != "":
		return []address{{network, net.JoinHostPort(t.Host, text)}}
	}
	v4, v6 := address{network, "127.0.0.1:" + text}, address{network, "[::1]:" + text}
	if s.client.Addr().Is6() {
		v4, v6 = v6, v4
	}
	if network == "udp" {
		return []address{v4}
	}
	return []address{v4, v6}
}
