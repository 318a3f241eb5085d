package hub

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/node/nodetest"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// patience bounds every wait.
const patience = 10 * time.Second

// A world is a hub, and agents that come to it by links in memory.
type world struct {
	*testing.T
	store store.Store
	doors *nodetest.Forwards
	nodes *node.Set

	mu   sync.Mutex
	hub  *Hub
	stop func()
}

func newWorld(t *testing.T, change func(*Options)) *world {
	w := &world{T: t, store: store.Memory(), doors: newDoors(t), nodes: node.NewSet(host.New(), nil, nil)}
	w.begin(change)
	t.Cleanup(func() { w.stop() })
	return w
}

func newDoors(t *testing.T) *nodetest.Forwards {
	doors := &nodetest.Forwards{At: host.New()}
	t.Cleanup(doors.Close)
	return doors
}

// begin starts a hub on what the store has.
func (w *world) begin(change func(*Options)) {
	w.Helper()
	w.beginWith(change, func(*Hub) {})
}

// beginWith has prepare look at the hub before it runs.
func (w *world) beginWith(change func(*Options), prepare func(*Hub)) {
	w.Helper()
	o := Options{
		Key: hubKey, Program: "fairlead test", Registry: openRegistry(w.T, w.store), Forwards: w.doors, Dial: hostDial, Nodes: w.nodes,
	}
	if change != nil {
		change(&o)
	}
	h, err := New(o)
	if err != nil {
		w.Fatal(err)
	}
	prepare(h)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = h.Run(ctx)
	}()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hub = h
	w.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
}

func (w *world) current() *Hub {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.hub
}

func hostDial(ctx context.Context, _ netip.AddrPort, network, addr string) (net.Conn, error) {
	if strings.HasPrefix(network, "udp") {
		return host.New().DialPacket(ctx, network, addr)
	}
	return host.New().Dial(ctx, network, addr)
}

// link is a link to the hub of whoever has a key.
func (w *world) link(key tunnel.Key) *tunneltest.Link {
	a, h := tunneltest.Pair(tunneltest.Options{Agent: key, Hub: hubKey})
	hub := w.current()
	go func() { _ = hub.Serve(context.Background(), h) }()
	return a
}

// enrol makes an agent, and says what it is called.
func (w *world) enrol(key tunnel.Key, name string, l Limits) string {
	w.Helper()
	token, err := w.hub.NewToken(TokenOptions{Name: name, Limits: l})
	if err != nil {
		w.Fatal(err)
	}
	told, err := w.join(key, token.Secret(), name)
	if err != nil {
		w.Fatal(err)
	}
	return told.Name
}

// limit replaces what an agent may.
func (w *world) limit(name string, l Limits) error {
	return w.hub.ChangeLimits(name, func(Limits) Limits { return l })
}

func (w *world) join(key tunnel.Key, secret, name string) (agent.Told, error) {
	ctx, cancel := context.WithTimeout(w.Context(), patience)
	defer cancel()
	return agent.Enrol(ctx, w.link(key), secret, name, "fairlead test")
}

// A machine is an agent that runs.
type machine struct {
	*agent.Hub
	stop func()

	mu   sync.Mutex
	link *tunneltest.Link
}

// cut ends the link that there is.
func (m *machine) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link.Cut()
}

// stall has nothing come through on the link that there is.
func (m *machine) stall() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.link.Stall(true)
}

func (w *world) run(key tunnel.Key, change func(*agent.HubOptions)) *machine {
	w.Helper()
	return w.runWith(key, change, func(*agent.Hub) {})
}

// runWith has prepare look at the agent's hub before it runs.
func (w *world) runWith(key tunnel.Key, change func(*agent.HubOptions), prepare func(*agent.Hub)) *machine {
	w.Helper()
	m := &machine{}
	o := agent.HubOptions{
		Address: "hub.test:443", Dial: hostDial, Program: "fairlead test",
		Connect: func(context.Context, func(error)) (tunnel.Link, error) {
			l := w.link(key)
			m.mu.Lock()
			m.link = l
			m.mu.Unlock()
			return l, nil
		},
	}
	if change != nil {
		change(&o)
	}
	var err error
	if m.Hub, err = agent.NewHub(o); err != nil {
		w.Fatal(err)
	}
	prepare(m.Hub)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	m.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	w.Cleanup(m.stop)
	return m
}

// eventually waits for something to come true.
func (w *world) eventually(what string, is func() bool) {
	w.Helper()
	for deadline := time.Now().Add(patience); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			w.Fatalf("it did not come to this: %s", what)
		}
	}
}

// listen has the hub listen for an agent, and echo what comes.
func (w *world) listen(m *machine, addr string) net.Listener {
	w.Helper()
	l, err := m.Listen(w.Context(), "tcp", addr)
	if err != nil {
		w.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	w.eventually("the hub listens", func() bool { return l.(node.Stated).State().Up })
	return l
}

func echo(c net.Conn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

// target is a server of this machine's that echoes.
func (w *world) target() string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go echo(c)
		}
	}()
	return l.Addr().String()
}

// says reports whether a connection echoes.
func says(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := c.Write([]byte("hello")); err != nil {
		return err
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		return fmt.Errorf("%q, %w", b, err)
	}
	return nil
}

func (w *world) dial(addr string) net.Conn {
	w.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { c.Close() })
	if err := says(c); err != nil {
		w.Fatal(err)
	}
	return c
}

// ends waits for a connection to end.
func (w *world) ends(what string, c net.Conn) {
	w.Helper()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
		w.Errorf("%s: the connection goes on: %v", what, err)
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}
