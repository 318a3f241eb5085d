package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/tunnel"
)

// netlabPlain is a line that does nothing to packets.
var netlabPlain netlab.Quality

// A far is a hub and an agent on two hosts, with a line between them.
type far struct {
	hub, agent *netlab.Node
	line       *netlab.Line
	b          *bench
	d          *Dialer
}

func newFar(t *testing.T, q netlab.Quality) *far {
	t.Helper()
	t.Parallel()
	lab := netlab.New(t)
	f := &far{hub: lab.Node("hub"), agent: lab.Node("agent")}
	f.line = lab.Line(netlab.End{Node: f.agent, Interface: "eth0", Addrs: []string{"192.0.2.2/24"}}, netlab.End{Node: f.hub, Interface: "eth0", Addrs: []string{"192.0.2.1/24"}})
	f.line.Set(q)
	tcp, err := f.hub.Listen("tcp", "192.0.2.1:443")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := f.hub.ListenPacket("udp", "192.0.2.1:443")
	if err != nil {
		t.Fatal(err)
	}
	f.b = hub(t, func(o *ListenOptions) {
		o.TCP[0].Close()
		o.UDP[0].Close()
		o.TCP, o.UDP = []net.Listener{tcp}, []net.PacketConn{udp}
	})
	f.d = dialer(t, f.b, func(o *DialOptions) { o.Hub = []string{"192.0.2.1:443"} })
	f.d.in = f.agent.Do
	return f
}

// pair is a link and its lane, at both ends.
func (f *far) pair(t *testing.T, transport string) (agent, hubEnd tunnel.Link, a, h tunnel.Lane) {
	t.Helper()
	agent, err := f.d.by(t.Context(), transport)
	if err != nil {
		t.Fatal(err)
	}
	if hubEnd, err = f.b.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		agent.Close()
		hubEnd.Close()
	})
	a, h = lanes(t, agent, hubEnd)
	return agent, hubEnd, a, h
}

// converse has both ends say something, in whatever time that takes.
func converse(t *testing.T, a, h tunnel.Lane) {
	t.Helper()
	for _, l := range []tunnel.Lane{a, h} {
		l.SetReadDeadline(time.Now().Add(30 * time.Second))
		l.SetWriteDeadline(time.Now().Add(30 * time.Second))
	}
	say(t, a, "are you there?")
	hear(t, h, "are you there?")
	say(t, h, "yes")
	hear(t, a, "yes")
}

// TestMigration: the agent's address changes, and the link stays.
func TestMigration(t *testing.T) {
	f := newFar(t, netlab.Delayed(20*time.Millisecond))
	agent, hubEnd, a, h := f.pair(t, QUIC)
	for i := range 4 {
		addr := fmt.Sprintf("192.0.2.%d", 10+i)
		f.agent.Readdress(t, "eth0", addr+"/24")
		start := time.Now()
		converse(t, a, h)
		t.Logf("%v after the change of address both have spoken", time.Since(start))
		for range 100 {
			if hubEnd.Remote().Addr() == netip.MustParseAddr(addr) {
				break
			}
			converse(t, a, h)
			time.Sleep(20 * time.Millisecond)
		}
		if hubEnd.Remote().Addr().String() != addr {
			t.Errorf("the hub sends to %v", hubEnd.Remote())
		}
	}
	if agent.Err() != nil || hubEnd.Err() != nil {
		t.Errorf("the link has ended: %v, %v", agent.Err(), hubEnd.Err())
	}
}

// TestMigrationWhileNobodySpeaks: the hub speaks first after the change, so the agent has to have told it.
func TestMigrationWhileNobodySpeaks(t *testing.T) {
	f := newFar(t, netlab.Delayed(20*time.Millisecond))
	_, _, a, h := f.pair(t, QUIC)
	f.agent.Readdress(t, "eth0", "192.0.2.77/24")
	start := time.Now()
	h.SetWriteDeadline(time.Now().Add(30 * time.Second))
	a.SetReadDeadline(time.Now().Add(30 * time.Second))
	say(t, h, "where are you?")
	hear(t, a, "where are you?")
	t.Logf("%v after the change of address the agent heard the hub", time.Since(start))
}

// TestMovedTCP: a link by TCP whose address is gone ends when that is noticed here, and not when it has been silent for long.
func TestMovedTCP(t *testing.T) {
	f := newFar(t, netlab.Delayed(20*time.Millisecond))
	quick(f.d).pace.settle = 50 * time.Millisecond
	for _, transport := range []string{TLS, WSS} {
		f.d.Transports = []string{transport}
		agent, _, a, h := f.pair(t, transport)
		converse(t, a, h)
		upgraded := make(chan error, 1)
		go func() {
			_, err := f.d.Upgrade(t.Context(), agent)
			upgraded <- err
		}()
		f.agent.Run(t, "ip", "addr", "add", "192.0.2.99/24", "dev", "eth0") // which changes nothing for the link
		time.Sleep(200 * time.Millisecond)
		converse(t, a, h)
		f.agent.Readdress(t, "eth0", map[string]string{TLS: "192.0.2.3/24", WSS: "192.0.2.4/24"}[transport])
		if err := <-upgraded; !errors.Is(err, errMoved) || !errors.Is(agent.Err(), errMoved) {
			t.Errorf("%s: %v; the link: %v", transport, err, agent.Err())
		}
	}
}

// TestOtherPort: somebody on the way drops the flow, as a NAT does that has forgotten it and a firewall that has had enough. The agent comes from
// another port.
func TestOtherPort(t *testing.T) {
	f := newFar(t, netlab.Delayed(20*time.Millisecond))
	agent, hubEnd, a, h := f.pair(t, QUIC)
	for range 2 {
		converse(t, a, h)
		port := hubEnd.Remote().Port()
		f.hub.Nft(t, fmt.Sprintf("table inet drop%d { chain in { type filter hook input priority 0; udp sport %d drop; }; }", port, port))
		start := time.Now()
		converse(t, a, h)
		t.Logf("%v after the flow was dropped both have spoken", time.Since(start))
		if hubEnd.Remote().Port() == port {
			t.Error("the hub hears from the port that is dropped")
		}
	}
	if agent.Err() != nil {
		t.Error(agent.Err())
	}
}

// TestCut: nothing gets through for a while. A link by QUIC is the same afterwards; and a new one by any transport is soon there.
func TestCut(t *testing.T) {
	f := newFar(t, netlab.Delayed(20*time.Millisecond))
	agent, _, a, h := f.pair(t, QUIC)
	f.line.Cut()
	spoken := make(chan time.Time, 1)
	say(t, a, "while it was cut")
	go func() {
		h.SetReadDeadline(time.Now().Add(30 * time.Second))
		hear(t, h, "while it was cut")
		spoken <- time.Now()
	}()
	redialled := make(chan time.Time, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		l, err := f.d.Redial(ctx, nil)
		redialled <- time.Now()
		if err != nil {
			t.Error(err)
			return
		}
		l.Close()
	}()
	time.Sleep(3 * time.Second)
	f.line.Mend()
	mended := time.Now()
	t.Logf("%v after the line was mended what was said is heard", (<-spoken).Sub(mended))
	t.Logf("%v after the line was mended there is a new link", (<-redialled).Sub(mended))
	if l, err := f.b.Accept(ctx); err == nil {
		l.Close()
	}
	if agent.Err() != nil {
		t.Error(agent.Err())
	}
}

// TestNoUDP: UDP vanishes on the way. The link is by TLS, soon; when UDP works again, it is by QUIC.
func TestNoUDP(t *testing.T) {
	f := newFar(t, netlab.Delayed(20*time.Millisecond))
	accepted(t, f.b)
	quick(f.d)
	f.hub.Nft(t, "table inet filter { chain in { type filter hook input priority 0; meta l4proto udp drop; }; }")
	start := time.Now()
	have, err := f.d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer have.Close()
	t.Logf("a link by %s after %v", have.Transport(), time.Since(start))
	if have.Transport() != TLS {
		t.Errorf("by %s", have.Transport())
	}
	f.hub.Nft(t, "delete table inet filter")
	better, err := f.d.Upgrade(t.Context(), have)
	if err != nil {
		t.Fatal(err)
	}
	defer better.Close()
	if better.Transport() != QUIC || have.Err() != nil {
		t.Errorf("by %s; the old one: %v", better.Transport(), have.Err())
	}
}

// TestPolicedUDP: UDP gets through, slowly, as where a provider takes it for an attack.
func TestPolicedUDP(t *testing.T) {
	f := newFar(t, netlab.Delayed(20*time.Millisecond))
	accepted(t, f.b)
	quick(f.d).pace.limit = 1500 * time.Millisecond
	f.hub.Nft(t, "table inet filter { chain in { type filter hook input priority 0; meta l4proto udp limit rate over 60 kbytes/second burst 20 kbytes drop; }; }")
	have, err := f.d.by(t.Context(), QUIC)
	if err != nil {
		t.Fatal(err)
	}
	defer have.Close()
	better, err := f.d.Upgrade(t.Context(), have)
	if err != nil {
		t.Fatal(err)
	}
	defer better.Close()
	if better.Transport() != TLS || have.Err() != nil {
		t.Errorf("by %s; the old one: %v", better.Transport(), have.Err())
	}
}

// TestHalfDead: the other end has vanished. TLS notices by itself, within TCP_USER_TIMEOUT of what was said, and QUIC within its idle time.
func TestHalfDead(t *testing.T) {
	if os.Getenv("FAIRLEAD_NETNS") != "require" {
		t.Skip("it takes a quarter of a minute; FAIRLEAD_NETNS=require runs it")
	}
	f := newFar(t, netlab.Quality{})
	var all []tunnel.Link
	var said []tunnel.Lane
	for _, transport := range tested {
		agent, _, a, _ := f.pair(t, transport)
		all, said = append(all, agent), append(said, a)
	}
	f.line.Cut()
	start := time.Now()
	for i, l := range all {
		say(t, said[i], "nobody hears this")
		go said[i].Read(make([]byte, 1))
		context.AfterFunc(t.Context(), func() { l.Close() })
	}
	for _, l := range all {
		select {
		case <-l.Done():
			t.Logf("%s: after %v: %v", l.Transport(), time.Since(start), l.Err())
		case <-time.After(40 * time.Second):
			t.Errorf("%s: nobody has noticed", l.Transport())
		}
	}
}
