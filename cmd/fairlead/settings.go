package main

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/node/sshnode"
	"github.com/fairlead-net/fairlead/password"
)

// settings is what of a configuration is no forward, as it holds now.
type settings struct {
	nodes  *node.Set
	users  atomic.Pointer[map[string]forward.User]
	logins *password.Checker
	sshd   *sshDaemon
	hub    *hubDaemon
	agent  *agentDaemon
	around *surroundings // nil: this host is nobody's gateway, whatever the settings are
	grants *grants       // nil as well
	log    *slog.Logger
}

func newSettings(o engineOptions) *settings {
	c := &settings{logins: password.NewChecker(), log: o.log}
	here := host.New()
	forNodes := o.node
	forNodes.Log, forNodes.Secrets = o.log, &sshnode.Secrets{}
	forNodes.Through = c.node
	if forNodes.Resolve == nil {
		forNodes.Resolve = resolveSSH(o.log, slog.LevelDebug)
	}
	c.agent = newAgentDaemon(here, o.state, o.log)
	c.hub = newHubDaemon(here, o)
	c.nodes = node.NewSet(&sharedHost{here, c.hub.doors}, func(s node.Spec) (node.Remote, error) {
		if s.Hub != nil {
			return c.agent.openNode(s), nil
		}
		return sshnode.New(s, forNodes)
	}, o.log)
	c.sshd = newSSHDaemon(here, o.state, o.log)
	c.hub.nodes = c.nodes
	if o.socket != "" {
		c.sshd.closed = []string{o.socket}
	}
	return c
}

// node finds a node by its name: one that is declared, a guest, or an agent that has yet to come.
func (c *settings) node(name string) (node.Node, error) {
	n, err := c.nodes.Node(name)
	if err != nil {
		return c.hub.node(name, err)
	}
	return n, nil
}

// settle makes s hold. It does not wait.
func (c *settings) settle(s config.Settings) {
	users := make(map[string]forward.User, len(s.Users))
	for _, u := range s.Users {
		users[u.Name] = u
	}
	c.users.Store(&users)
	c.agent.settle(s.Agent) // before the nodes, which are beyond it
	c.hub.settle(s.Hub, s.Agents)
	c.nodes.Apply(s.Nodes)
	c.sshd.settle(s.SSHD)
	if c.grants != nil {
		c.around.settle(s.Gateway, alsoOpen(s))
		c.grants.settle(s.Portmap)
	}
}

// login checks who wants to use a dynamic forward.
func (c *settings) login(ctx context.Context, f *forward.Forward, source netip.Addr, name, pass string) (forward.User, error) {
	var u forward.User
	known := false
	if users := c.users.Load(); users != nil {
		u, known = (*users)[name]
	}
	known = known && (len(f.Users) == 0 || slices.Contains(f.Users, name))
	return u, c.logins.Check(ctx, source, u.Password.Reveal(), known, name, pass)
}

// opened waits until the servers that the settings want have been opened, or have failed to, or ctx ends.
func (c *settings) opened(ctx context.Context) {
	servers := []interface{ opened() <-chan struct{} }{c.sshd, c.hub, c.agent}
	if c.grants != nil {
		for _, s := range c.grants.servers {
			servers = append(servers, s)
		}
	}
	for _, s := range servers {
		select {
		case <-s.opened():
		case <-ctx.Done():
		}
	}
}

// run runs the nodes and the servers until ctx ends.
func (c *settings) run(ctx context.Context) error {
	var tasks errgroup.Group
	tasks.Go(func() error { return c.nodes.Run(ctx) })
	tasks.Go(func() error { c.sshd.run(ctx); return nil })
	tasks.Go(func() error { c.hub.run(ctx); return nil })
	tasks.Go(func() error { c.agent.run(ctx); return nil })
	if c.grants != nil {
		tasks.Go(func() error { c.around.run(ctx); return nil })
		tasks.Go(func() error { c.grants.run(ctx); return nil })
	}
	return tasks.Wait()
}
