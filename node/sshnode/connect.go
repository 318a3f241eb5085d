package sshnode

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/internal/sshwire"
	"github.com/fairlead-net/fairlead/node"
)

// maxHops is how many servers may stand in front of one another by ssh_config alone, so that a loop there ends.
const maxHops = 16

// connect brings one connection about.
func (n *Node) connect(ctx context.Context) (*link, error) {
	r, err := n.resolve(ctx)
	if err != nil {
		return nil, err
	}
	w, err := n.connectFast(ctx, &r)
	if errors.Is(err, sshwire.ErrUnsupported) {
		w, err = n.connectPlain(ctx, &r)
	}
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return newLink(n, w, &r), nil
}

// connectPlain has x/crypto speak the protocol.
func (n *Node) connectPlain(ctx context.Context, r *Resolved) (wire, error) {
	raw, err := n.reach(ctx, r)
	if err != nil {
		return nil, err
	}
	conn := sshchan.NewWire(raw)
	h := newHandshake(n, r, conn)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	client, err := h.run(ctx)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	conn.LoggedIn()
	return newPlainWire(client, conn), nil
}

func (n *Node) resolve(ctx context.Context) (Resolved, error) {
	var r Resolved
	if n.o.Resolve != nil {
		var err error
		if r, err = n.o.Resolve(ctx, n.query); err != nil {
			return r, &configError{fmt.Errorf("ssh_config for %s: %w", n.query.Host, err)}
		}
	}
	r, err := settle(n.query, n.ssh, r)
	if n.jumps != nil {
		r.ProxyJump, r.ProxyCommand = n.jumps, ""
	}
	return r, err
}

// reach opens what the SSH protocol is spoken over.
func (n *Node) reach(ctx context.Context, r *Resolved) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, r.ConnectTimeout)
	defer cancel()
	addr := r.address()
	switch {
	case n.ssh.Jump != "":
		via, err := n.o.Through(n.ssh.Jump)
		if err != nil {
			return nil, &configError{fmt.Errorf("%s by way of the node %s: %w", addr, n.ssh.Jump, err)}
		}
		n.waitsFor("the node "+n.ssh.Jump, via)
		conn, err := via.Dial(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("%s by way of the node %s: %w", addr, n.ssh.Jump, err)
		}
		return conn, nil
	case len(r.ProxyJump) > 0:
		hop, err := n.hop(r.ProxyJump)
		if err != nil {
			return nil, err
		}
		n.waitsFor(r.ProxyJump[len(r.ProxyJump)-1], hop)
		conn, err := hop.Dial(ctx, "tcp", addr)
		if err != nil {
			if why := hop.Err(); why != nil && Permanent(why) {
				err = why // a question of time it is not
			}
			return nil, fmt.Errorf("%s by way of %s: %w", addr, strings.Join(r.ProxyJump, ", "), err)
		}
		return conn, nil
	case r.ProxyCommand != "":
		return startProxy(r.ProxyCommand, n.log)
	}
	conn, err := dialDirect(ctx, r, addr)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", addr, plain(err))
	}
	return conn, nil
}

// waitsFor says in the state that it is another node that is waited for, if that is away.
func (n *Node) waitsFor(name string, via node.Node) {
	stated, ok := via.(node.Stated)
	if !ok {
		return
	}
	s := stated.State() // not under the lock: nobody knows what it leads to
	why, _, _ := strings.Cut(s.Why, "; next try in ")
	n.mu.Lock()
	defer n.mu.Unlock()
	if !s.Up && len(n.links) == 0 && !n.ended {
		n.next = time.Time{}
		n.state = node.State{Why: clean("waits for " + name + ": " + why), Since: n.state.Since}
	}
}

// hop is the node that dials for us because ssh_config says so. It lives as long as this one.
func (n *Node) hop(jumps []string) (*Node, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	key := strings.Join(jumps, ",")
	if hop := n.hops[key]; hop != nil {
		return hop, nil
	}
	if n.depth >= maxHops {
		return nil, &configError{fmt.Errorf("%s: more than %d hops lead there; ProxyJump of ssh_config goes round in a circle", n.query.Host, maxHops)}
	}
	last := len(jumps) - 1
	spec := node.Spec{Name: n.spec.Name + " via " + jumps[last], SSH: &node.SSH{
		Target: jumps[last], Keepalive: n.ssh.Keepalive, Agent: n.ssh.Agent, Config: n.ssh.Config,
	}}
	o := n.o
	o.MustConnect = false
	o.Ask = n.askOne()
	hop, err := New(spec, o)
	if err != nil {
		return nil, &configError{err}
	}
	hop.depth, hop.query.Jump = n.depth+1, true
	if last > 0 {
		hop.jumps = jumps[:last]
	}
	n.hops[key] = hop
	n.starting = append(n.starting, hop)
	n.wake()
	return hop, nil
}

// askOne is Ask with one question at a time, so that hops do not talk at once; nil if nobody is there.
func (n *Node) askOne() func(context.Context, string, bool) (string, error) {
	if n.o.Ask == nil {
		return nil
	}
	return func(ctx context.Context, prompt string, echo bool) (string, error) {
		n.asking.Lock()
		defer n.asking.Unlock()
		return n.o.Ask(ctx, prompt, echo)
	}
}

func dialDirect(ctx context.Context, r *Resolved, addr string) (net.Conn, error) {
	var d net.Dialer
	network := "tcp"
	switch r.AddressFamily {
	case "inet":
		network = "tcp4"
	case "inet6":
		network = "tcp6"
	}
	if r.BindAddress != "" {
		local, err := net.ResolveTCPAddr(network, net.JoinHostPort(r.BindAddress, "0"))
		if err != nil {
			return nil, &configError{err}
		}
		d.LocalAddr = local
	}
	conn, err := d.DialContext(ctx, network, addr)
	if err == nil {
		setUserTimeout(conn, time.Duration(1+r.ServerAliveCountMax)*r.ServerAliveInterval)
	}
	return conn, err
}

// plain leaves out what package net repeats of the address.
func plain(err error) error {
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		return op.Err
	}
	return err
}
