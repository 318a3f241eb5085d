package tunnel_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// TestImpostorCannotResume: who knows the session and has another key gets neither it nor its link.
func TestImpostorCannotResume(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	good := d.mustConnect()
	st := d.open(d.hub, tcp("x:1"))
	a, h := tunneltest.Pair(tunneltest.Options{Agent: tunnel.Key{66}, Hub: hubKey})
	mallory := tunnel.New(tunnel.Options{Side: tunnel.Agent, ID: tunnel.ID{7}})
	go func() {
		c, err := tunnel.Receive(context.Background(), h)
		if err != nil {
			t.Error(err)
			return
		}
		if c.Hello.Session != (tunnel.ID{7}) || !c.Hello.Resume || c.Link.Peer() == agentKey {
			t.Errorf("%+v", c.Hello)
		}
		if err := c.Join(d.hub.Session, tunnel.Hello{}); err == nil {
			t.Error("the impostor has joined")
		}
	}()
	_, err := mallory.Attach(t.Context(), a, tunnel.Hello{Resume: true})
	var e *tunnel.Error
	if !errors.As(err, &e) || e.Code != tunnel.Refused || !errors.Is(err, node.ErrRefused) {
		t.Errorf("the impostor was told %v", err)
	}
	if a.Err() == nil || good.Err() != nil {
		t.Errorf("the impostor's link: %v, the agent's: %v", a.Err(), good.Err())
	}
	if _, err := st.Write([]byte("x")); err != nil {
		t.Error(err)
	}
}

func TestOtherVersionIsToldKindly(t *testing.T) {
	a, h := tunneltest.Pair(tunneltest.Options{})
	go func() {
		if _, err := tunnel.Receive(context.Background(), h); err == nil {
			t.Error("a later version was received")
		}
	}()
	lane, _ := a.Open(t.Context())
	hello := wire.Hello{Lowest: 2, Highest: 3}
	_, _ = lane.Write(hello.Append(nil))
	b := make([]byte, 4096)
	n, _ := lane.Read(b)
	typ, size, head, err := wire.Head(b[:n], 4096)
	if err != nil || typ != wire.TypeRefuse {
		t.Fatalf("%x: %v", b[:n], err)
	}
	w, err := wire.ParseWord(typ, b[head:head+size])
	if err != nil || tunnel.Code(w.Code) != tunnel.Version || w.Text == "" {
		t.Errorf("%+v, %v", w, err)
	}
}

// raw is a hub's session, and a lane on which a test says what it wants.
func raw(t testing.TB, handler tunnel.Handler) (*tunnel.Session, *tunneltest.Link, tunnel.Lane, func()) {
	a, h := tunneltest.Pair(tunneltest.Options{})
	s := tunnel.New(tunnel.Options{Side: tunnel.Hub, Handler: handler, Streams: 10})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		_ = s.Run(ctx)
		close(ended)
	}()
	lane, err := a.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	hello := wire.Hello{Lowest: 1, Highest: 1}
	_, _ = lane.Write(hello.Append(nil))
	c, err := tunnel.Receive(ctx, newBesides(h))
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Join(s, tunnel.Hello{}); err != nil {
		t.Fatal(err)
	}
	return s, a, lane, func() {
		cancel()
		<-ended
	}
}

type accepting struct{}

func (accepting) Opened(a *tunnel.Arrival) { _, _ = a.Accept(nil) }
func (accepting) Asked(_ string, p []byte, reply func([]byte, error)) {
	reply(p, nil)
}

func TestNonsenseEndsTheLinkOnly(t *testing.T) {
	open := wire.Open{Stream: 1, Kind: 1, Network: "tcp", Address: "x:1", Window: 10}
	data := func(stream, offset uint64, p string) []byte {
		b := append(make([]byte, wire.DataHead), p...)
		return b[wire.PutDataHead(b, wire.DataHead, len(p), stream, offset):]
	}
	for name, said := range map[string][]byte{
		"a gap":                          append(open.Append(nil), data(1, 1, "x")...),
		"more than was granted":          append(open.Append(nil), append(data(1, 0, string(make([]byte, 60000))), data(1, 60000, string(make([]byte, 60000)))...)...),
		"a stream that never was":        data(3, 0, "x"),
		"a stream of the hub's":          data(2, 0, "x"),
		"an answer to nothing":           (&wire.Answer{Stream: 2}).Append(nil),
		"a reply to nothing":             (&wire.Reply{Number: 5}).Append(nil),
		"credit for what was never sent": append(open.Append(nil), wire.AppendCredit(nil, 1, 5, 100)...),
		"an end before the bytes":        append(open.Append(nil), wire.AppendNumbers(nil, wire.TypeFin, 1, 5)...),
		"bytes of a flow":                append((&wire.Open{Stream: 1, Kind: 1, Network: "udp", Address: "x:1"}).Append(nil), data(1, 0, "x")...),
		"the end of a flow":              append((&wire.Open{Stream: 1, Kind: 1, Network: "udp", Address: "x:1"}).Append(nil), wire.AppendNumbers(nil, wire.TypeFin, 1, 0)...),
		"the hub's number":               (&wire.Open{Stream: 2}).Append(nil),
		"an unknown frame":               {0x60, 0},
		"a frame without end":            {byte(wire.TypeOpen), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
		"a second hello":                 (&wire.Hello{}).Append(nil),
		"READY again and again":          bytes.Repeat(wire.AppendEmpty(nil, wire.TypeReady), 5000),
		"half a head":                    {byte(wire.TypeData), 1, 0x40},
	} {
		t.Run(name, func(t *testing.T) {
			s, link, lane, end := raw(t, accepting{})
			defer end()
			go func() {
				for b := make([]byte, 1000); ; {
					if _, err := lane.Read(b); err != nil {
						return
					}
				}
			}()
			_, _ = lane.Write(said)
			select {
			case <-link.Done():
			case <-time.After(5 * time.Second):
				t.Error("the link goes on")
			}
			if _, err := s.Open(canceled(), tcp("x:1")); errors.Is(err, node.ErrClosed) {
				t.Errorf("the session has ended, too: %v", err)
			}
		})
	}
}

func canceled() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// FuzzSession has a session read whatever comes. It must neither panic, hang nor keep what was not bounded.
func FuzzSession(f *testing.F) {
	open := wire.Open{Stream: 1, Kind: 1, Network: "tcp", Address: "x:1", Window: 1000}
	udp := wire.Open{Stream: 3, Kind: 1, Network: "udp", Address: "x:1", Window: 1000}
	all := wire.AppendEmpty(nil, wire.TypeReady)
	all = open.Append(all)
	all = udp.Append(all)
	b := append(make([]byte, wire.DataHead), "hello"...)
	all = append(all, b[wire.PutDataHead(b, wire.DataHead, 5, 1, 0):]...)
	all = wire.AppendDatagram(all, 3, []byte("hello"))
	all = wire.AppendCredit(all, 1, 0, 2000)
	all = wire.AppendNumbers(all, wire.TypeFin, 1, 5)
	f.Add(all)
	f.Add(append((&wire.Request{Number: 1, Name: "x"}).Append(nil), wire.AppendNumber(nil, wire.TypeHave, 1)...))
	f.Add(append(all, wire.AppendNumbers(nil, wire.TypeReset, 1, 0)...))
	f.Add(append(all, all...))
	f.Add(append(wire.AppendEmpty(nil, wire.TypeMoves), wire.AppendNumber(nil, wire.TypeMove, 1)...))
	f.Add(append(wire.AppendEmpty(nil, wire.TypeSide), wire.AppendEmpty(wire.AppendEmpty(nil, wire.TypeNoSide), wire.TypeNoSide)...))
	f.Fuzz(func(t *testing.T, said []byte) {
		_, link, lane, end := raw(t, accepting{})
		go func() {
			for b := make([]byte, 1000); ; {
				if _, err := lane.Read(b); err != nil {
					return
				}
			}
		}()
		_, _ = lane.Write(said)
		_, _ = lane.Write(wire.AppendNumber(nil, wire.TypePing, 1))
		_ = link.Close()
		end()
	})
}

// TestOtherLanesAreForBytes: what is not DATA or FIN has to come on the first lane.
func TestOtherLanesAreForBytes(t *testing.T) {
	d := newDuo(t, tunneltest.Options{Lanes: true}, tunnel.Options{})
	l := d.mustConnect()
	lane, err := l.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = lane.Write(wire.AppendNumber(nil, wire.TypePing, 1))
	select {
	case <-l.Done():
	case <-time.After(5 * time.Second):
		t.Error("the link goes on")
	}
}

// TestLinksOfASession: who joins again and again has as many links as a session needs, and the older ones end.
func TestLinksOfASession(t *testing.T) {
	s, first, _, end := raw(t, accepting{})
	defer end()
	for range 20 {
		a, h := tunneltest.Pair(tunneltest.Options{})
		lane, err := a.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		hello := wire.Hello{Lowest: 1, Highest: 1}
		_, _ = lane.Write(hello.Append(nil))
		c, err := tunnel.Receive(t.Context(), h)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Join(s, tunnel.Hello{}); err != nil {
			t.Fatal(err)
		}
	}
	<-first.Done()
	for range 1000 {
		if len(s.Status().Links) <= 8 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Errorf("%d links", len(s.Status().Links))
}
