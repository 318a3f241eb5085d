package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/hub"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// A hubDaemon is the hub of the settings, whichever that is at the moment.
type hubDaemon struct {
	*resident[*config.Hub]
	host   node.Node
	nodes  *node.Set
	guests *guests
	store  store.Store
	dir    string                    // of its key
	doors  *doors                    // at its port
	list   func() []*forward.Forward // of the table
	ready  <-chan struct{}           // closed once its forwards have been applied
	relay  *relay.Relay
	thawed chan struct{} // closed when what an earlier process has left is seen to
	thaw   sync.Once

	mu     sync.Mutex
	want   *config.Hub // nil: none
	agents []config.AgentLimits
	now    *hub.Hub   // nil: none runs
	at     string     // where it listens, in words
	live   *liveHub   // what now is made of
	left   *hubLegacy // by an earlier process, until it is used
}

func newHubDaemon(host node.Node, o engineOptions) *hubDaemon {
	h := &hubDaemon{host: host, store: o.store, dir: o.state, thawed: make(chan struct{})}
	h.doors = &doors{list: func() []*forward.Forward { return h.list() }}
	h.resident = newResident("the hub", o.log, sameHub, h.serve)
	return h
}

// sameHub reports whether two settings differ in no more than in what takes effect at once.
func sameHub(a, b *config.Hub) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Listen.Equal(b.Listen) && a.Resume == b.Resume && slices.Equal(a.Transports, b.Transports)
}

// settle makes want the hub and what agents may. It does not wait.
func (h *hubDaemon) settle(want *config.Hub, agents []config.AgentLimits) {
	h.mu.Lock()
	h.want, h.agents = want, agents
	now := h.now
	if now != nil && want != nil {
		defer now.Apply(hubSettings(want, agents))
	}
	h.mu.Unlock()
	h.doors.settle(want)
	h.resident.settle(want)
}

// hubSettings are what the file says of agents.
func hubSettings(c *config.Hub, agents []config.AgentLimits) hub.Settings {
	s := hub.Settings{Default: hub.Limits{Ports: c.Ports.Ranges}, Agents: map[string]hub.Limits{}, MaxAgents: c.MaxAgents}
	for _, a := range agents {
		s.Agents[a.Name] = hubLimits(a)
	}
	return s
}

// hubLimits is a as the hub has it: what is not said is nil there, and nothing at all an empty list.
func hubLimits(a config.AgentLimits) hub.Limits {
	l := hub.Limits{
		Ports: a.Ports.Ranges, Hosts: a.Hosts, Targets: a.Targets, Reach: a.Reach, Bandwidth: a.Bandwidth, Sessions: a.MaxSessions, Forwards: a.MaxForwards,
		Expires: a.Expires,
	}
	if a.NoPorts {
		l.Ports = []forward.Range{}
	}
	return l
}

// meant reports whether a name is a node's, or a forward's that waits for its agent.
func (h *hubDaemon) meant(name string) bool {
	if _, declared := h.nodes.Spec(name); declared || name == forward.Host {
		return true
	}
	return slices.ContainsFunc(h.list(), func(f *forward.Forward) bool { return f.Via == name || f.At == name })
}

// serve is the hub until ctx ends; without one it is content at once.
func (h *hubDaemon) serve(ctx context.Context, want *config.Hub, opened func()) error {
	left := h.takeLeft()
	if want == nil {
		h.discard(left)
		h.seen()
		return nil
	}
	used := false
	defer func() {
		if !used {
			h.leaveAgain(left)
		}
	}()
	identity, err := link.LoadIdentity(filepath.Join(h.dir, hubKeyFile))
	if err != nil {
		return err
	}
	registry, err := hub.OpenRegistry(h.store)
	if err != nil {
		return err
	}
	core, err := hub.New(hub.Options{
		Log: h.log, Key: identity.Key(), Program: programName(), Registry: registry, Forwards: h.guests, Dial: dialHere(h.host), Nodes: h.nodes, Meant: h.meant,
		Resume: want.Resume, Shared: h.shared,
	})
	if err != nil {
		return err
	}
	live := &liveHub{core: core, ended: make(chan struct{}), tcp: -1}
	at, err := h.listen(ctx, want, identity, live, left)
	if err != nil {
		return err
	}
	used = true
	left.thaw(core, h.relay)
	h.begin(core, at)
	defer h.begin(nil, "")
	h.log.Info("the hub listens", keyListen, at)
	opened()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The port outlives the hub: agents are told that it stops, and come again at once.
	listening, shut := context.WithCancel(context.WithoutCancel(ctx))
	defer shut()
	live.shut = shut
	var tasks errgroup.Group
	tasks.Go(func() error {
		select {
		case <-h.ready: // those who come by a name are to find it
		case <-listening.Done():
		}
		err := live.listener.Run(listening)
		close(live.ended)
		if !h.isFrozen(live) {
			stop()
		}
		return err
	})
	tasks.Go(func() error {
		h.accept(ctx, want.Transports, live.listener, core)
		return nil
	})
	tasks.Go(func() error {
		select {
		case <-core.Running():
			h.seen()
		case <-ctx.Done():
		}
		return nil
	})
	h.setAlive(live)
	err = core.Run(ctx)
	h.setAlive(nil)
	stop()
	shut()
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, tasks.Wait())
}

// begin makes core the hub that is asked.
func (h *hubDaemon) begin(core *hub.Hub, at string) {
	h.mu.Lock()
	h.now, h.at = core, at
	want, agents := h.want, h.agents
	h.mu.Unlock()
	if core != nil && want != nil {
		core.Apply(hubSettings(want, agents))
	}
}

// accept gives the hub who comes, until ctx ends.
func (h *hubDaemon) accept(ctx context.Context, transports []string, l *link.Listener, core *hub.Hub) {
	var tidy tidier
	defer tidy.stop()
	var serving sync.WaitGroup
	defer serving.Wait()
	var said time.Time
	for {
		agent, err := l.Accept(ctx)
		if err != nil {
			return
		}
		if !slices.Contains(transports, agent.Transport()) { // TLS and WebSocket come by the same port
			if now := time.Now(); now.Sub(said) > time.Minute { // anybody can come
				said = now
				h.log.Info("an agent came by a transport that is not taken", "transport", agent.Transport(), "from", agent.Remote().String())
			}
			_ = agent.Close()
			continue
		}
		serving.Go(func() {
			_ = core.Serve(ctx, agent) // it has logged what went wrong
			tidy.soon()
		})
	}
}

// letGo is how long forwards that had the hub's port may take to let go of it, before they have it by way of the hub or are gone.
const letGo = 3 * time.Second

// listenSoon listens at the hub's port, of which a forward may yet have to let go.
func (h *hubDaemon) listenSoon(ctx context.Context, addr string) (net.Listener, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); ; {
		l, err := h.host.Listen(ctx, "tcp", addr)
		if !errors.Is(err, syscall.EADDRINUSE) || time.Since(begun) > letGo {
			return l, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// listen opens the one port of the hub, or goes on with what is open already, and says where that is.
func (h *hubDaemon) listen(ctx context.Context, want *config.Hub, identity *link.Identity, live *liveHub, left *hubLegacy) (string, error) {
	port := portRange(want.Listen).First
	addr := ":" + strconv.Itoa(int(port))
	if want.Listen.Addr.IsValid() {
		addr = netip.AddrPortFrom(want.Listen.Addr, port).String()
	}
	o := link.ListenOptions{Identity: identity, Other: h.doors.visit, Log: h.log}
	live.at = addr
	tcp, udp := left.openPort(addr)
	fail := func(network string, err error) (string, error) {
		for _, l := range o.TCP {
			_ = l.Close()
		}
		for _, c := range o.UDP {
			_ = c.Close()
		}
		return "", fmt.Errorf("listen = %q: %s: %w", addr, network, err)
	}
	if slices.Contains(want.Transports, link.TLS) || slices.Contains(want.Transports, link.WSS) {
		if tcp == nil {
			var err error
			if tcp, err = h.listenSoon(ctx, addr); err != nil {
				return fail("tcp", err)
			}
		}
		o.TCP = append(o.TCP, tcp)
	}
	if slices.Contains(want.Transports, link.QUIC) {
		packets, ok := h.host.(node.PacketNode)
		if !ok {
			return fail("udp", node.ErrUnfit)
		}
		if udp == nil {
			var err error
			if udp, err = packets.ListenPacket(ctx, "udp", addr); err != nil {
				return fail("udp", err)
			}
		}
		o.UDP = append(o.UDP, udp)
	}
	where := "every address"
	if want.Listen.Addr.IsValid() {
		where = want.Listen.Addr.String()
	}
	where = fmt.Sprintf("%s, port %d of %s", where, port, openNetworks(o))
	live.sockets, live.listener = o, link.NewListener(o)
	return where, nil
}

// openNetworks says what a firewall in front of the hub has to let in.
func openNetworks(o link.ListenOptions) string {
	var list []string
	if len(o.TCP) > 0 {
		list = append(list, "tcp")
	}
	if len(o.UDP) > 0 {
		list = append(list, "udp")
	}
	return strings.Join(list, " and ")
}

// shared is the port of the hub, which forwards with names share, and the name of the hub itself.
func (h *hubDaemon) shared() (port uint16, name string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.want == nil {
		return 0, ""
	}
	return portRange(h.want.Listen).First, forward.NameCalled(h.want.Address)
}

// listens says where the hub listens.
func (h *hubDaemon) listens() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return cmp.Or(h.at, "nowhere")
}

// running is the hub, and how it is called; nil where there is none.
func (h *hubDaemon) running() (*hub.Hub, *config.Hub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.want == nil { // one that still runs is about to end
		return nil, nil
	}
	return h.now, h.want
}

// A moment is t, or nothing for the zero time.
func moment(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Second)
	return &t
}
