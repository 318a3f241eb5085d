package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/table"
)

// guests puts what clients of the SSH server ask to have forwarded to them into the table: each client is a node for as long
// as it is there, and each of its listeners a forward whose origin is its key.
type guests struct {
	table *table.Table
	nodes *node.Set

	mu    sync.Mutex
	next  int
	rooms map[node.Node]*guest
}

// A guest is one client that has forwards.
type guest struct {
	name     string // of the node
	forwards int
}

func newGuests(t *table.Table, nodes *node.Set) *guests {
	return &guests{table: t, nodes: nodes, rooms: map[node.Node]*guest{}}
}

// Put has n's client called by whoever calls listen. The same key's older forward of the same place is replaced: the client
// that made it is dead or has been overtaken. bound is listen with the port that was picked where it asked for port 0.
func (g *guests) Put(ctx context.Context, key string, listen forward.Listen, n node.Node) (name string, bound forward.Listen, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if listen, err = pickPort(listen); err != nil {
		return "", listen, err
	}
	name = guestForward(key, listen)
	room := g.enter(key, n)
	f := &forward.Forward{
		Name: name, Origin: forward.Origin("ssh:" + key), Via: room.name, Listen: listen, Carry: forward.CarryRelay,
		To: []forward.Target{{Ports: portRange(listen)}},
	}
	if listen.IsUnix() {
		f.To[0] = forward.Target{Path: listen.Path}
	}
	status, err := g.table.Put(ctx, f)
	if err == nil && status.State == forward.StateFailed {
		err = errors.Join(errors.New(status.Detail), g.table.Delete(context.WithoutCancel(ctx), name))
	}
	if err != nil {
		g.exit(n, room)
		return "", listen, err
	}
	return name, listen, nil
}

// Delete takes a forward away that n's client asked for, unless another client has replaced it.
func (g *guests) Delete(ctx context.Context, name string, n node.Node) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	room := g.rooms[n]
	if room == nil {
		return nil
	}
	defer g.exit(n, room)
	for _, s := range g.table.Snapshot() {
		if s.Forward.Name == name && s.Forward.Via == room.name {
			return g.table.Delete(ctx, name)
		}
	}
	return nil
}

func (g *guests) enter(key string, n node.Node) *guest {
	room := g.rooms[n]
	if room == nil {
		g.next++
		room = &guest{name: fmt.Sprintf("ssh:%s/%d", key, g.next)}
		g.rooms[n] = room
		g.nodes.Join(room.name, n)
	}
	room.forwards++
	return room
}

func (g *guests) exit(n node.Node, room *guest) {
	if room.forwards--; room.forwards == 0 {
		g.nodes.Leave(room.name, n)
		delete(g.rooms, n)
	}
}

// guestForward is the name of the forward: one for each place that a key listens at.
func guestForward(key string, l forward.Listen) string {
	where := strconv.Itoa(int(portRange(l).First))
	if l.IsUnix() {
		where = strings.Trim(strings.Map(nameRune, l.Path), "-")
	} else if l.Addr.IsValid() && !l.Addr.IsLoopback() {
		where = strings.Map(nameRune, l.Addr.String()) + "-" + where
	}
	name := "ssh-" + key + "-" + where
	if len(name) <= forward.MaxNameLen {
		return name
	}
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, name)
	return fmt.Sprintf("%s-%08x", name[:forward.MaxNameLen-9], sum.Sum32())
}

// nameRune is r, or a dash where r cannot be part of a name.
func nameRune(r rune) rune {
	if r < 128 && (r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_') {
		return r
	}
	return '-'
}

func portRange(l forward.Listen) forward.Range {
	if len(l.Ports.Ranges) == 0 {
		return forward.Range{}
	}
	return l.Ports.Ranges[0]
}

// pickPort finds a free port where none was named.
func pickPort(l forward.Listen) (forward.Listen, error) {
	if l.IsUnix() || portRange(l).First != 0 {
		return l, nil
	}
	addr := netip.AddrPortFrom(l.Addr, 0).String()
	if !l.Addr.IsValid() {
		addr = ":0"
	}
	free, err := net.Listen("tcp", addr)
	if err != nil {
		return l, err
	}
	defer free.Close()
	port := free.Addr().(*net.TCPAddr).AddrPort().Port()
	l.Ports = forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}
	return l, nil
}
