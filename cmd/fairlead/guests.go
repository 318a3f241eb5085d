package main

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/table"
)

// guests puts what clients of the SSH server, or agents of the hub, ask to have forwarded to them into the table: each is a node for as
// long as it has listeners, and each of these a forward whose origin is its key.
type guests struct {
	kind  string // "ssh" or "agent": what origins and names begin with
	table *table.Table
	nodes *node.Set
	whole func(forward.Listen) bool           // whether a place is taken but for names; nil: none is
	own   func(forward.Listen) forward.Listen // where names are served that want a place; nil: there

	mu    sync.Mutex
	next  int
	rooms map[node.Node]*guest
}

// A guest is one client or agent that has forwards.
type guest struct {
	name     string // of the node
	forwards int
}

func newGuests(kind string, t *table.Table, nodes *node.Set) *guests {
	return &guests{kind: kind, table: t, nodes: nodes, rooms: map[node.Node]*guest{}}
}

// Put has n's client called by whoever calls at a door. The same key's older forward of the same door is replaced: the client
// that made it is dead or has been overtaken. bound is the door with the port that was picked where it asked for port 0.
func (g *guests) Put(ctx context.Context, key string, door forward.Door, n node.Node) (name string, bound forward.Door, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if door.Listen, err = pickPort(door.Listen); err != nil {
		return "", door, err
	}
	if g.own != nil && door.Named() {
		door.Listen = g.own(door.Listen)
	}
	origin := forward.Origin(g.kind + ":" + key)
	if name, err = g.place(origin, key, door); err != nil {
		return "", door, err
	}
	room := g.enter(key, n)
	f := &forward.Forward{
		Name: name, Origin: origin, Via: room.name, Listen: door.Listen, Carry: forward.CarryRelay,
		To: []forward.Target{{Ports: portRange(door.Listen)}}, Hosts: door.Hosts, Site: door.Site(),
	}
	if door.IsUnix() {
		f.To[0] = forward.Target{Path: door.Path}
	}
	status, err := g.table.Put(ctx, f)
	if err == nil && status.State == forward.StateFailed {
		err = errors.Join(errors.New(status.Detail), g.table.Delete(context.WithoutCancel(ctx), name))
	}
	if err != nil && ctx.Err() != nil { // the table has it all the same, if it got that far
		err = errors.Join(err, g.withdraw(context.WithoutCancel(ctx), name, room))
	}
	if err != nil {
		g.exit(n, room)
		return "", door, err
	}
	return name, door, nil
}

// place finds the name of the forward for a door: the one that the key's forward of this door has already, or one that is
// free. A place that other forwards listen at is refused, in whole or in part: of two that overlap the more specific one gets
// the clients, and none that were meant for others are a guest's. Names share a port with other names, and whether they can is the
// table's to say.
func (g *guests) place(origin forward.Origin, key string, door forward.Door) (string, error) {
	if g.whole != nil && !door.Named() && g.whole(door.Listen) {
		return "", fmt.Errorf("%s is the hub's own; with names it is shared", door)
	}
	name, taken := guestForward(g.kind, key, door), false
	for _, f := range g.table.Forwards() {
		switch {
		case f.Origin == origin && f.Listen.Equal(door.Listen) && slices.Equal(f.Hosts, door.Hosts):
			return f.Name, nil
		case f.Origin != origin && !f.Disabled && f.ListensAt() == forward.Host && overlap(f.Listen, door.Listen) && !(f.ByName() && door.Named()):
			return "", fmt.Errorf("forward %q listens there: %s", f.Name, f.Listen)
		}
		taken = taken || f.Name == name
	}
	if taken {
		name = markName(name, string(origin)+" "+door.String())
	}
	return name, nil
}

// overlap reports whether clients of b are clients of a, in part or as a whole. What is left over by all others (*) is nobody's.
func overlap(a, b forward.Listen) bool {
	if a.IsUnix() || b.IsUnix() {
		return a.Path == b.Path
	}
	all := func(l forward.Listen) bool { return !l.Addr.IsValid() || l.Addr.IsUnspecified() }
	return !a.Ports.All && a.Networks&b.Networks != 0 && a.Ports.Contains(portRange(b).First) && (a.Addr == b.Addr || all(a) || all(b))
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
	return g.withdraw(ctx, name, room)
}

// withdraw deletes a forward if it is the guest's.
func (g *guests) withdraw(ctx context.Context, name string, room *guest) error {
	for _, f := range g.table.Forwards() {
		if f.Name == name && f.Via == room.name {
			if err := g.table.Delete(ctx, name); !errors.Is(err, table.ErrStopped) { // it has no more forwards then
				return err
			}
		}
	}
	return nil
}

func (g *guests) enter(key string, n node.Node) *guest {
	room := g.rooms[n]
	if room == nil {
		g.next++
		room = &guest{name: fmt.Sprintf("%s:%s/%d", g.kind, key, g.next)}
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

// guestForward is the name that the forward for a door that a key listens at has if that is free.
func guestForward(kind, key string, l forward.Door) string {
	where := strconv.Itoa(int(portRange(l.Listen).First))
	if l.Networks == forward.UDP {
		where = "udp-" + where
	}
	if l.IsUnix() {
		where = strings.Trim(strings.Map(nameRune, l.Path), "-")
	} else if l.Addr.IsValid() && !l.Addr.IsLoopback() {
		where = strings.Map(nameRune, l.Addr.String()) + "-" + where
	}
	if l.Named() {
		where = strings.Trim(strings.Map(nameRune, l.Hosts[0]), "-.") + "-" + where
	}
	name := kind + "-" + key + "-" + where
	if len(name) <= forward.MaxNameLen {
		return name
	}
	return markName(name, name)
}

// markName tells a name apart from others by a digest of what it is for.
func markName(name, of string) string {
	sum := fnv.New32a()
	_, _ = io.WriteString(sum, of)
	return fmt.Sprintf("%s-%08x", name[:min(len(name), forward.MaxNameLen-9)], sum.Sum32())
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
	port, err := freePort(l.Networks == forward.UDP, addr)
	if err != nil {
		return l, err
	}
	l.Ports = forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}
	return l, nil
}

func freePort(udp bool, addr string) (uint16, error) {
	if udp {
		free, err := net.ListenPacket("udp", addr)
		if err != nil {
			return 0, err
		}
		defer free.Close()
		return free.LocalAddr().(*net.UDPAddr).AddrPort().Port(), nil
	}
	free, err := net.Listen("tcp", addr)
	if err != nil {
		return 0, err
	}
	defer free.Close()
	return free.Addr().(*net.TCPAddr).AddrPort().Port(), nil
}
