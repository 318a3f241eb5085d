package hub

import (
	"context"
	"crypto/ed25519"
	"net"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/node/nodetest"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// A site is a hub that listens on loopback, and an agent of it that has been enrolled by a token.
type site struct {
	*world
	hubID, agentID *link.Identity
	addr           string
}

func identity(t *testing.T) *link.Identity {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	id, err := link.NewIdentity(private)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func newSite(t *testing.T) *site {
	s := &site{hubID: identity(t), agentID: identity(t)}
	s.world = newWorld(t, func(o *Options) { o.Key = s.hubID.Key() })
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Skipf("the UDP port beside the TCP port is somebody's: %v", err)
	}
	t.Cleanup(func() { udp.Close() })
	s.addr = tcp.Addr().String()
	l := link.NewListener(link.ListenOptions{Identity: s.hubID, TCP: []net.Listener{tcp}, UDP: []net.PacketConn{udp}})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{}, 2)
	go func() {
		_ = l.Run(ctx)
		ended <- struct{}{}
	}()
	go func() {
		for {
			one, err := l.Accept(ctx)
			if err != nil {
				ended <- struct{}{}
				return
			}
			go func() { _ = s.hub.Serve(ctx, one) }()
		}
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-ended
	})
	return s
}

// dialer is the agent's.
func (s *site) dialer(hub tunnel.Key, transport string) *link.Dialer {
	s.Helper()
	d, err := link.NewDialer(link.DialOptions{
		Identity: s.agentID, Hub: []string{s.addr}, Key: hub, Transports: []string{transport}, Proxy: link.NoProxy,
	})
	if err != nil {
		s.Fatal(err)
	}
	return d
}

// start enrols the agent and runs it.
func (s *site) start(transport string, l Limits) *machine {
	s.Helper()
	made, err := s.hub.NewToken(TokenOptions{Limits: l})
	if err != nil {
		s.Fatal(err)
	}
	token, err := ParseToken(made.String())
	if err != nil {
		s.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(s.Context(), patience)
	defer cancel()
	d := s.dialer(token.Hub, transport)
	one, err := d.Dial(ctx)
	if err != nil {
		s.Fatal(err)
	}
	if _, err := agent.Enrol(ctx, one, token.Secret(), "pi", "fairlead test"); err != nil {
		s.Fatal(err)
	}
	all, err := forward.ParseListen("tcp+udp/*")
	if err != nil {
		s.Fatal(err)
	}
	m := s.run(tunnel.Key{}, func(o *agent.HubOptions) {
		o.Connect, o.Better = d.Redial, d.Upgrade
		o.Allow, o.Places, o.Forwards = []agent.Allow{{Rule: forward.Rule{Host: "localhost"}}}, agent.Places{all}, &nodetest.Forwards{At: host.New()}
	})
	s.eventually("the agent is there", func() bool { return m.State().Up })
	return m
}

// TestOverEachTransport has both kinds of node pass the suite between a true hub and an agent that was enrolled at it.
func TestOverEachTransport(t *testing.T) {
	limits := Limits{Targets: []forward.Rule{{Host: "localhost"}}}
	for _, transport := range link.Transports() {
		t.Run("the hub, "+transport, func(t *testing.T) {
			nodetest.Run(t, agent.Caps(), func(t *testing.T) node.Node { return newSite(t).start(transport, limits).Hub })
		})
		t.Run("an agent, "+transport, func(t *testing.T) {
			nodetest.Run(t, agent.Caps(), func(t *testing.T) node.Node {
				s := newSite(t)
				s.start(transport, limits)
				n, err := s.nodes.Node("pi")
				if err != nil {
					t.Fatal(err)
				}
				s.eventually("the agent is there", func() bool { return n.(node.Stated).State().Up })
				return n
			})
		})
	}
}
