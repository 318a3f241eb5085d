package tunnel_test

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// dataFrame is DATA.
func dataFrame(stream, offset uint64, p string) []byte {
	b := append(make([]byte, wire.DataHead), p...)
	return b[wire.PutDataHead(b, wire.DataHead, len(p), stream, offset):]
}

// TestGreetingsOutOfOrder: a link that begins with anything else than a whole HELLO is no agent's, and is closed at once.
func TestGreetingsOutOfOrder(t *testing.T) {
	hello := (&wire.Hello{Lowest: 1, Highest: 1, Session: [16]byte{7}, Name: "anna", Program: "fairlead 1", Secret: "s"}).Append(nil)
	said := map[string][]byte{
		"nothing":           nil,
		"REFUSE":            (&wire.Word{Code: 1, Text: "no"}).Append(nil, wire.TypeRefuse),
		"READY":             wire.AppendEmpty(nil, wire.TypeReady),
		"READY, then HELLO": append(wire.AppendEmpty(nil, wire.TypeReady), hello...),
		"LEAVE":             (&wire.Word{Code: 6}).Append(nil, wire.TypeLeave),
		"PING":              wire.AppendNumber(nil, wire.TypePing, 1),
		"OPEN, then HELLO":  append((&wire.Open{Stream: 1, Kind: 1, Network: "tcp", Address: "x:1", Window: 1000}).Append(nil), hello...),
		"DATA":              dataFrame(1, 0, "x"),
		"REQUEST":           (&wire.Request{Number: 1, Name: "listen"}).Append(nil),
		"DATAGRAM":          wire.AppendDatagram(nil, 1, []byte("x")),
		"an optional frame": {0x80, 0},
		"a long HELLO":      append([]byte{byte(wire.TypeHello), 0x50, 0x01}, make([]byte, 0x1001)...),
		"an empty HELLO":    {byte(wire.TypeHello), 0},
		"HTTP":              []byte("GET / HTTP/1.1\r\nHost: hub.example.com\r\n\r\n"),
		"TLS":               {0x16, 3, 1, 0, 200, 1, 0, 0, 196, 3, 3},
	}
	for n := 1; n < len(hello); n++ {
		said["HELLO up to byte "+string(rune('0'+n/10))+string(rune('0'+n%10))] = hello[:n]
	}
	for name, b := range said {
		a, h := tunneltest.Pair(tunneltest.Options{})
		go func() {
			lane, err := a.Open(context.Background())
			if err != nil {
				return
			}
			_, _ = lane.Write(b)
			_ = lane.Close()
		}()
		if c, err := tunnel.Receive(t.Context(), h); err == nil {
			t.Errorf("%s: %+v was received", name, c.Hello)
		}
		if h.Err() == nil {
			t.Errorf("%s: the link goes on", name)
		}
	}
}

// A recorder is a link whose agent's words on the first lane are kept.
type recorder struct {
	*tunneltest.Link
	mu   sync.Mutex
	said []byte
}

func (r *recorder) Open(ctx context.Context) (tunnel.Lane, error) {
	l, err := r.Link.Open(ctx)
	return &recordedLane{l, r}, err
}

type recordedLane struct {
	tunnel.Lane
	r *recorder
}

func (l *recordedLane) Write(p []byte) (int, error) {
	l.r.mu.Lock()
	l.r.said = append(l.r.said, p...)
	l.r.mu.Unlock()
	return l.Lane.Write(p)
}

// A tally takes what comes, and counts what it was asked to do.
type tally struct {
	t      *testing.T
	mu     sync.Mutex
	opened map[string]int
	asked  map[string]int
	got    map[string]string
}

func (c *tally) Opened(a *tunnel.Arrival) {
	c.mu.Lock()
	c.opened[a.Address]++
	c.mu.Unlock()
	st, err := a.Accept(nil)
	if err != nil {
		return
	}
	go func() {
		for b := make([]byte, 100); ; {
			n, err := st.Read(b)
			c.mu.Lock()
			c.got[a.Address] += string(b[:n])
			c.mu.Unlock()
			if err != nil {
				_ = st.Close()
				return
			}
		}
	}()
}

func (c *tally) Asked(name string, p []byte, reply func([]byte, error)) {
	c.mu.Lock()
	c.asked[name]++
	c.mu.Unlock()
	reply(p, nil)
}

// TestConversationsAgain says once more what an agent has said, on further links of its session: as it was, cut off, and in any other order. Nothing is
// done twice, and of no stream come other bytes than were sent.
func TestConversationsAgain(t *testing.T) {
	c := &tally{t: t, opened: map[string]int{}, asked: map[string]int{}, got: map[string]string{}}
	hub := tunnel.New(tunnel.Options{Side: tunnel.Hub, ID: tunnel.ID{7}, Handler: c})
	agent := tunnel.New(tunnel.Options{Side: tunnel.Agent, ID: tunnel.ID{7}})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = hub.Run(ctx) })
	running.Go(func() { _ = agent.Run(ctx) })
	defer running.Wait()
	defer cancel()
	join := func(h *tunneltest.Link) {
		if caller, err := tunnel.Receive(ctx, h); err == nil {
			_ = caller.Join(hub, tunnel.Hello{})
		}
	}
	a, h := tunneltest.Pair(tunneltest.Options{Agent: agentKey, Hub: hubKey})
	go join(h)
	r := &recorder{Link: a}
	if _, err := agent.Attach(ctx, r, tunnel.Hello{Name: "anna"}); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"a:1": strings.Repeat("first", 100), "b:2": strings.Repeat("second", 50)}
	for addr, text := range want {
		st, err := agent.Open(ctx, tcp(addr))
		if err != nil {
			t.Fatal(err)
		}
		for len(text) > 0 {
			n := min(len(text), 120)
			if _, err := io.WriteString(st, text[:n]); err != nil {
				t.Fatal(err)
			}
			text = text[n:]
		}
		if _, err := agent.Ask(ctx, "listen "+addr, nil); err != nil {
			t.Fatal(err)
		}
		if err := st.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if n, err := st.Read(make([]byte, 1)); err != io.EOF {
			t.Fatalf("%d, %v", n, err)
		}
		_ = st.Close()
	}
	agentLeft(t, agent)
	a.Cut()
	r.mu.Lock()
	said := r.said
	r.mu.Unlock()

	again := func(b []byte) {
		a, h := tunneltest.Pair(tunneltest.Options{Agent: agentKey, Hub: hubKey})
		done := make(chan struct{})
		go func() {
			defer close(done)
			join(h)
		}()
		lane, err := a.Open(ctx)
		if err != nil {
			t.Fatal(err)
		}
		go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{lane}) }()
		_, _ = lane.Write(b)
		_ = lane.Close() // what was said is read before
		<-done
		<-a.Done()
	}
	again(said)
	for n := 1; n < len(said); n += 1 + len(said)/60 {
		again(said[:n])
	}
	frames := split(t, said)
	chance := rand.New(rand.NewPCG(5, 6)) //nolint:gosec // so that it can be done again
	for range 200 {
		mixed := append([]byte(nil), frames[0]...) // HELLO is first, or nothing is heard
		for _, i := range chance.Perm(len(frames)) {
			mixed = append(mixed, frames[i]...)
		}
		again(mixed)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr, text := range want {
		if c.opened[addr] != 1 || c.asked["listen "+addr] != 1 || c.got[addr] != text {
			t.Errorf("%s was opened %d times and asked about %d times; %d bytes of %d came", addr, c.opened[addr], c.asked["listen "+addr], len(c.got[addr]), len(text))
		}
	}
	if err := hub.Err(); err != nil {
		t.Errorf("the session has ended: %v", err)
	}
}

// agentLeft waits until the agent has forgotten its streams.
func agentLeft(t *testing.T, s *tunnel.Session) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); s.Status().Streams > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d streams are left", s.Status().Streams)
		}
	}
}

// split is the frames in b.
func split(t *testing.T, b []byte) (frames [][]byte) {
	t.Helper()
	for len(b) > 0 {
		_, size, n, err := wire.Head(b, wire.MaxBody)
		if err != nil || n == 0 || n+size > len(b) {
			t.Fatalf("%x: %v", b[:min(len(b), 20)], err)
		}
		frames = append(frames, b[:n+size])
		b = b[n+size:]
	}
	return frames
}

// TestOtherVersionOfTheHub: an agent whose hub is of another version learns so, in words, from either.
func TestOtherVersionOfTheHub(t *testing.T) {
	for name, answer := range map[string][]byte{
		"a hub that refuses":          (&wire.Word{Code: uint64(tunnel.Version), Text: "this end speaks version 2 of the protocol: update"}).Append(nil, wire.TypeRefuse),
		"a hub of a later version":    (&wire.Hello{Lowest: 2, Highest: 3}).Append(nil),
		"a hub of an earlier version": (&wire.Hello{Lowest: 0, Highest: 0}).Append(nil),
	} {
		a, h := tunneltest.Pair(tunneltest.Options{})
		go func() {
			if lane, err := h.Accept(context.Background()); err == nil {
				_, _ = lane.Read(make([]byte, 4096))
				_, _ = lane.Write(answer)
			}
		}()
		s := tunnel.New(tunnel.Options{Side: tunnel.Agent, ID: tunnel.ID{7}})
		_, err := s.Attach(t.Context(), a, tunnel.Hello{})
		var e *tunnel.Error
		if !errors.As(err, &e) || e.Code != tunnel.Version || !strings.Contains(e.Text, "update") {
			t.Errorf("%s: %v", name, err)
		}
		if a.Err() == nil {
			t.Errorf("%s: the link goes on", name)
		}
	}
}

// FuzzGreeting has a hub receive whatever comes first on a link, in pieces of any length. It hears no more than it should, and the same however that is cut.
func FuzzGreeting(f *testing.F) {
	hello := (&wire.Hello{Lowest: 1, Highest: 1, Session: [16]byte{7}, Name: "anna", Program: "fairlead 1", Secret: "s", Keep: 1}).Append(nil)
	f.Add(hello, 1)
	f.Add(append(hello[:len(hello):len(hello)], wire.AppendEmpty(nil, wire.TypeReady)...), 7)
	f.Add((&wire.Hello{Lowest: 2, Highest: 9}).Append(nil), 3)
	f.Add((&wire.Word{Code: 1, Text: "no"}).Append(nil, wire.TypeRefuse), 100)
	f.Add([]byte{byte(wire.TypeHello), 0xc0, 0, 0, 0, 0, 0, 0x10, 0}, 2)
	f.Fuzz(func(t *testing.T, said []byte, piece int) {
		receive := func(piece int) (tunnel.Hello, bool) {
			a, h := tunneltest.Pair(tunneltest.Options{Buffer: piece})
			go func() {
				lane, err := a.Open(context.Background())
				if err != nil {
					return
				}
				go func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{lane}) }()
				_, _ = lane.Write(said)
				_ = lane.Close()
			}()
			c, err := tunnel.Receive(context.Background(), h)
			if err != nil {
				if h.Err() == nil {
					t.Errorf("the link of somebody who was not received goes on: %v", err)
				}
				_ = a.Close()
				return tunnel.Hello{}, false
			}
			_ = h.Close()
			return c.Hello, true
		}
		whole, ok := receive(64 << 10)
		cut, again := receive(1 + max(0, piece)%100)
		if whole != cut || ok != again {
			t.Errorf("%+v, %v; in pieces %+v, %v", whole, ok, cut, again)
		}
	})
}

// FuzzHub has an agent with a stream, a flow and a request hear whatever a hub says, in its lanes and in datagrams.
func FuzzHub(f *testing.F) {
	hello := (&wire.Hello{Lowest: 1, Highest: 1, Keep: 300000}).Append(nil)
	good := wire.AppendEmpty(hello, wire.TypeReady)
	good = (&wire.Answer{Stream: 1, Window: 1000, Address: "192.0.2.1:5"}).Append(good)
	good = (&wire.Answer{Stream: 3, Window: 1000}).Append(good)
	good = append(good, dataFrame(1, 0, "hello")...)
	good = wire.AppendNumbers(good, wire.TypeFin, 1, 5)
	good = wire.AppendCredit(good, 1, 0, 5000)
	good = (&wire.Reply{Number: 1, Payload: []byte("x")}).Append(good)
	f.Add(good, []byte{}, wire.AppendPacket(nil, 3, []byte("hello")))
	f.Add(good, dataFrame(1, 0, "hello"), []byte{})
	f.Add(append(hello, (&wire.Open{Stream: 2, Kind: 2, Network: "tcp", Listener: 1, Window: 100}).Append(nil)...), dataFrame(2, 0, "x"), []byte{2})
	f.Add((&wire.Word{Code: 4, Text: "gone"}).Append(nil, wire.TypeRefuse), []byte{}, []byte{})
	f.Add(append(good, (&wire.Word{Code: 5, Text: "revoked"}).Append(nil, wire.TypeLeave)...), []byte{}, []byte{})
	f.Fuzz(func(t *testing.T, said, aside, packet []byte) {
		a, h := tunneltest.Pair(tunneltest.Options{Lanes: true, Datagrams: 1200})
		s := tunnel.New(tunnel.Options{Side: tunnel.Agent, ID: tunnel.ID{7}, Handler: accepting{}, Streams: 10})
		ctx, cancel := context.WithCancel(context.Background())
		var all sync.WaitGroup
		all.Go(func() { _ = s.Run(ctx) })
		for _, network := range []string{"tcp", "udp"} {
			all.Go(func() {
				if st, err := s.Open(ctx, tunnel.Call{Kind: tunnel.Dial, Network: network, Address: "x:1"}); err == nil {
					_, _ = st.Write([]byte("hello"))
					_, _ = st.Read(make([]byte, 10))
				}
			})
		}
		all.Go(func() { _, _ = s.Ask(ctx, "listen", []byte("{}")) })
		all.Go(func() {
			lane, err := h.Accept(ctx)
			if err != nil {
				return
			}
			all.Go(func() { _, _ = io.Copy(io.Discard, struct{ io.Reader }{lane}) })
			_, _ = lane.Write(said)
			if other, err := h.Open(ctx); err == nil {
				_, _ = other.Write(aside)
			}
			_ = h.Datagram(packet)
			_, _ = lane.Write(wire.AppendNumber(nil, wire.TypePing, 1))
			_ = lane.Close()
		})
		if _, err := s.Attach(ctx, a, tunnel.Hello{}); err == nil {
			<-a.Done()
		}
		_ = h.Close()
		cancel()
		all.Wait()
	})
}
