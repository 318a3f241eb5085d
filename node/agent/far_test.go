package agent_test

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/node/nodetest"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// A pair is an agent and its hub, without a registry.
type pair struct {
	hub   *agent.Hub // as the agent has it
	far   *agent.Far // the agent, as the hub has it
	doors map[string]*nodetest.Forwards
	links chan *tunneltest.Link // the hub's ends of those that came about
}

var (
	agentKey = tunnel.Key{1}
	hubKey   = tunnel.Key{2}
)

// everywhere is a policy without limits, for both ends.
func everywhere(t testing.TB) (agent.Places, []agent.Allow) {
	all, err := forward.ParseListen("tcp+udp/*")
	if err != nil {
		t.Fatal(err)
	}
	return agent.Places{all}, []agent.Allow{{Rule: forward.Rule{Host: "*"}}}
}

// hostDial dials from this machine, datagrams as well.
func hostDial(ctx context.Context, _ netip.AddrPort, network, addr string) (net.Conn, error) {
	if strings.HasPrefix(network, "udp") {
		return host.New().DialPacket(ctx, network, addr)
	}
	return host.New().Dial(ctx, network, addr)
}

// connect makes a pair whose links are such as o says. change sees the options before they are used.
func connect(t testing.TB, o tunneltest.Options, change func(*agent.Options, *agent.HubOptions)) *pair {
	t.Helper()
	o.Agent, o.Hub = agentKey, hubKey
	p := &pair{doors: map[string]*nodetest.Forwards{"agent": {At: host.New()}, "hub": {At: host.New()}}, links: make(chan *tunneltest.Link, 64)}
	places, allow := everywhere(t)
	far := agent.Options{
		Name: "agent pi", Key: "pi", Landlord: places, Forwards: p.doors["hub"],
		Judge: &agent.Dialler{Connect: hostDial, Rules: func(tunnel.Call) []forward.Rule { return []forward.Rule{{Host: "*"}} }},
	}
	hub := agent.HubOptions{
		Address: "hub.test:443", Allow: allow, Dial: hostDial, Places: places, Forwards: p.doors["agent"],
		Connect: func(ctx context.Context, _ func(error)) (tunnel.Link, error) {
			a, h := tunneltest.Pair(o)
			go p.serve(ctx, h)
			return a, nil
		},
	}
	if change != nil {
		change(&far, &hub)
	}
	p.far = agent.New(far)
	var err error
	if p.hub, err = agent.NewHub(hub); err != nil {
		t.Fatal(err)
	}
	for _, run := range []func(context.Context) error{p.far.Run, p.hub.Run} {
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = run(ctx)
		}()
		t.Cleanup(func() {
			cancel()
			<-done
		})
	}
	t.Cleanup(func() {
		for _, d := range p.doors {
			d.Close()
		}
	})
	return p
}

// serve is what a hub does with a link, for an agent of which it thinks no ill.
func (p *pair) serve(ctx context.Context, l *tunneltest.Link) {
	c, err := tunnel.Receive(ctx, l)
	if err != nil {
		return
	}
	s := p.far.Session()
	if s == nil || s.Status().ID != c.Hello.Session {
		if c.Hello.Resume {
			c.Refuse(tunnel.Gone, "")
			return
		}
		s = p.far.Begin(tunnel.Options{Side: tunnel.Hub, ID: c.Hello.Session})
	}
	if err := c.Join(s, tunnel.Hello{Name: "hub"}); err == nil {
		p.links <- l
	}
}

func isUp(t testing.TB, n node.Stated) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !n.State().Up; time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it is not up: %s", n.State().Why)
		}
	}
}

var links = map[string]tunneltest.Options{
	"one lane":   {},
	"many lanes": {Lanes: true, Datagrams: 1200},
}

// TestNodes has both kinds pass the suite.
func TestNodes(t *testing.T) {
	for name, o := range links {
		t.Run("the hub, "+name, func(t *testing.T) {
			nodetest.Run(t, agent.Caps(), func(t *testing.T) node.Node {
				p := connect(t, o, nil)
				isUp(t, p.hub)
				return p.hub
			})
		})
		t.Run("an agent, "+name, func(t *testing.T) {
			nodetest.Run(t, agent.Caps(), func(t *testing.T) node.Node {
				p := connect(t, o, nil)
				isUp(t, p.far)
				return p.far
			})
		})
	}
}
