package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// An agentDaemon is this host as an agent, as the settings say at the moment.
type agentDaemon struct {
	*resident[*config.Agent]
	host    node.Node
	dir     string            // of the keys
	listens func(farListener) // called for each listener that the hub is asked for; nil is nobody
	relay   *relay.Relay

	mu     sync.Mutex
	now    *config.Agent // nil: none
	there  *agent.Hub    // while now
	member membership    // as of the last start, as all that follows
	dialer *link.Dialer
	called string        // host:port
	wrong  string        // why there does not run; "" when it does
	left   *agent.Frozen // by an earlier process, until it is used
}

func newAgentDaemon(host node.Node, dir string, log *slog.Logger) *agentDaemon {
	a := &agentDaemon{host: host, dir: dir}
	a.resident = newResident("the agent", log, sameAgent, a.serve)
	return a
}

// sameAgent reports whether two settings differ in no more than in what takes effect at once.
func sameAgent(a, b *config.Agent) bool {
	if a == nil || b == nil {
		return a == b
	}
	x, y := *a, *b
	x.Allow, y.Allow = nil, nil
	return x.Equal(&y)
}

// settle makes want what this host is. It does not wait.
func (a *agentDaemon) settle(want *config.Agent) {
	a.mu.Lock()
	same := sameAgent(a.now, want)
	a.now = want
	switch {
	case want == nil:
		a.there = nil
		a.discard()
	case same:
		there := a.there
		defer there.SetAllow(allowed(want))
	default:
		a.there, a.wrong = a.newHub(want), ""
		a.thaw()
	}
	a.mu.Unlock()
	a.resident.settle(want)
}

// thaw has the hub go on with the session that an earlier process has left, before anybody asks for something to be listened at: it is
// there already.
func (a *agentDaemon) thaw() {
	left := a.left
	if a.left = nil; left == nil {
		return
	}
	all, err := a.there.Thaw(context.Background(), left, adopter(a.relay, left.Session.Peer, left.Session.ID)) // nothing of it waits
	if err != nil {
		a.log.Warn("the session with the hub does not go on as a whole", keyError, err)
	}
	a.relay.Adopted(lasting(all))
}

func (a *agentDaemon) discard() {
	if a.left != nil {
		agent.Discard(a.left)
		a.left = nil
	}
}

// quiet has nobody come by the hub any more.
func (a *agentDaemon) quiet() {
	if hub := a.hub(); hub != nil {
		hub.Quiet()
	}
}

// freeze ends the session with the hub in this process, for the next one to go on with; nil where there is none.
func (a *agentDaemon) freeze() *agent.Frozen {
	a.mu.Lock()
	hub, left := a.there, a.left
	a.mu.Unlock()
	if hub == nil {
		return left
	}
	frozen, err := hub.Freeze()
	if err != nil {
		a.log.Debug("there is no session to leave", keyError, err)
	}
	return frozen
}

// allowed is what the hub and other agents may have dialled here.
func allowed(want *config.Agent) []agent.Allow {
	list := make([]agent.Allow, len(want.Allow))
	for i, rule := range want.Allow {
		list[i].Rule = rule
	}
	return list
}

// theHub is how this host's hub is called where its address is not the matter.
const theHub = "the hub"

// newHub is the hub of an agent, which connects as start says.
func (a *agentDaemon) newHub(want *config.Agent) *agent.Hub {
	hub, err := agent.NewHub(agent.HubOptions{
		Address: theHub, Name: want.Name, Program: programName(), Log: a.log, Allow: allowed(want), Dial: dialHere(a.host), Told: a.told,
		Connect: func(ctx context.Context, failed func(error)) (tunnel.Link, error) {
			return a.dials().Redial(ctx, failed)
		},
		Better: func(ctx context.Context, than tunnel.Link) (tunnel.Link, error) {
			return a.dials().Upgrade(ctx, than)
		},
	})
	if err != nil {
		panic(err) // something was left out above
	}
	return hub
}

// dials is who makes links to the hub.
func (a *agentDaemon) dials() *link.Dialer {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dialer
}

// dialHere dials from this host.
func dialHere(host node.Node) func(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, _ netip.AddrPort, network, addr string) (net.Conn, error) {
		if strings.HasPrefix(network, "tcp") {
			return host.Dial(ctx, network, addr)
		}
		if packets, ok := host.(node.PacketNode); ok && strings.HasPrefix(network, "udp") {
			return packets.DialPacket(ctx, network, addr)
		}
		return nil, fmt.Errorf("%w: the network %q", node.ErrUnfit, network)
	}
}

// hub is the hub, nil while this host is no agent.
func (a *agentDaemon) hub() *agent.Hub {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.there
}

// state says whether the hub is there.
func (a *agentDaemon) state() node.State {
	a.mu.Lock()
	hub, wrong := a.there, a.wrong
	a.mu.Unlock()
	switch {
	case hub == nil:
		return node.State{Why: "this host is no agent now"}
	case wrong != "":
		return node.State{Why: wrong}
	}
	return hub.State()
}

// told takes note of what the hub says of this agent.
func (a *agentDaemon) told(t agent.Told) {
	a.mu.Lock()
	old := a.member.Name
	a.member.Name = t.Name
	member := a.member
	a.mu.Unlock()
	a.log.Info("the hub says what this agent is and may", "agent", t.Name, "may", strings.Join(t.May, "; "))
	if old == t.Name || member.Key == "" {
		return
	}
	if err := writeMembership(a.dir, member); err != nil {
		a.log.Warn("the new name of this agent is not kept", "agent", t.Name, keyError, err)
	}
}

// serve is this host's agent until ctx ends.
func (a *agentDaemon) serve(ctx context.Context, want *config.Agent, opened func()) error {
	if want == nil {
		return nil
	}
	a.mu.Lock()
	hub, current := a.there, a.there != nil && sameAgent(a.now, want)
	a.mu.Unlock()
	if !current {
		return nil // there is something newer to serve
	}
	err := a.start(ctx, want, hub, opened)
	if err != nil {
		a.mu.Lock()
		a.wrong = err.Error()
		a.mu.Unlock()
	}
	return err
}

func (a *agentDaemon) start(ctx context.Context, want *config.Agent, hub *agent.Hub, opened func()) error {
	release, err := holdAgent(a.dir)
	if err != nil {
		return err
	}
	defer release() //nolint:errcheck // the lock goes with the descriptor
	if err := a.prepare(want); err != nil {
		return err
	}
	opened()
	if err := hub.Run(ctx); ctx.Err() == nil {
		return err
	}
	return nil
}

// prepare finds out how the hub is called that was joined.
func (a *agentDaemon) prepare(want *config.Agent) error {
	member, key, err := readMembership(a.dir)
	if err != nil {
		return err
	}
	identity, err := loadAgent(a.dir)
	if err != nil {
		return err
	}
	called := member.Hub
	if want.Hub != "" {
		called = dialAddress(want.Hub)
	}
	dialer, err := link.NewDialer(link.DialOptions{
		Identity: identity, Hub: []string{called}, Key: key, Transports: want.Transports, Proxy: string(want.Proxy), Log: a.log,
	})
	if err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.member, a.dialer, a.called, a.wrong = member, dialer, called, ""
	return nil
}

// address is how the hub is called, host:port.
func (a *agentDaemon) address() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.called
}

// dialAddress is host[:port] with the usual port of a hub where none was written.
func dialAddress(s string) string {
	if _, _, err := net.SplitHostPort(s); err == nil {
		return s
	}
	return net.JoinHostPort(strings.Trim(s, "[]"), strconv.Itoa(config.DefaultHubPort))
}

// problem is why the agent does not run, or "". That it waits for a hub that is away is its forwards' to say, unless it has none.
func (a *agentDaemon) problem() string {
	if p := a.resident.problem(); p != "" {
		return p
	}
	if s := a.state(); a.hub() != nil && !s.Up && time.Since(s.Since) > residentSteady {
		return "the agent waits: " + s.Why
	}
	return ""
}

// openNode makes a node of a declaration that is about the hub.
func (a *agentDaemon) openNode(s node.Spec) node.Remote {
	return &hubNode{of: a, name: s.Name, agent: s.Hub.Agent}
}
