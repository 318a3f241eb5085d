package main

import (
	"context"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/hub"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// guestTime is how long a hub that leaves waits for those of whom it does not know yet who they are.
const guestTime = time.Second

// A liveHub is a hub that runs, with what it listens at.
type liveHub struct {
	core     *hub.Hub
	at       string // as hubLegacy has it
	sockets  link.ListenOptions
	listener *link.Listener
	shut     context.CancelFunc // ends the listener
	ended    chan struct{}      // which is closed then

	tcp    int // a duplicate of the listening socket, once it is quiet; -1: none
	frozen bool
}

// quiet has nobody come to the hub's port any more, and waits a moment for those who just have. Who comes later waits in the socket's queue,
// or at the agents.
func (h *hubDaemon) quiet() {
	live := h.alive()
	if live == nil {
		return
	}
	for _, l := range live.sockets.TCP {
		live.tcp = duplicateOf(l)
		_ = l.Close()
	}
	live.core.Quiet()
	live.listener.AwaitGuests(guestTime)
	h.doors.awaitEmpty(guestTime)
}

// freeze ends the hub in this process, and returns what the next one needs to go on with it; nil where there is none.
func (h *hubDaemon) freeze() *hubLegacy {
	h.mu.Lock()
	live, left := h.live, h.left
	h.left = nil
	if live != nil {
		live.frozen = true
	}
	h.mu.Unlock()
	if live == nil {
		return left // which this process has not got to
	}
	l := &hubLegacy{At: live.at, TCP: live.tcp, UDP: -1}
	for _, c := range live.sockets.UDP {
		l.UDP = duplicateOf(c)
	}
	live.shut() // first: agents that lose their links come again at once, and are to find nobody who sends them away
	<-live.ended
	l.Agents = live.core.Freeze()
	return l
}

// alive is the hub that runs, or nil.
func (h *hubDaemon) alive() *liveHub {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.live
}

// setAlive says which hub runs.
func (h *hubDaemon) setAlive(live *liveHub) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.live = live
}

func (h *hubDaemon) isFrozen(live *liveHub) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return live.frozen
}

// takeLeft is what an earlier process has left of its hub, once.
func (h *hubDaemon) takeLeft() *hubLegacy {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := h.left
	h.left = nil
	return left
}

// leaveAgain puts back what could not be used yet. The sockets of the port were.
func (h *hubDaemon) leaveAgain(left *hubLegacy) {
	if left == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = &hubLegacy{TCP: -1, UDP: -1, Agents: left.Agents}
}

// discard closes what is left of a hub that this host is no longer.
func (h *hubDaemon) discard(left *hubLegacy) {
	if left == nil {
		return
	}
	left.closePort()
	for _, a := range left.Agents {
		agent.Discard(a.Far)
	}
}

func (l *hubLegacy) closePort() {
	for _, fd := range (*hubPort)(l).sockets() {
		_ = os.NewFile(uintptr(*fd), "hub").Close()
		*fd = -1
	}
}

// openPort is what is listened at for a hub at an address already, nil where that is nothing. All that is for another address is closed.
func (l *hubLegacy) openPort(at string) (tcp net.Listener, udp net.PacketConn) {
	if l == nil {
		return nil, nil
	}
	defer l.closePort() // what follows are duplicates
	if l.At != at {
		return nil, nil
	}
	if l.TCP >= 0 {
		f := os.NewFile(uintptr(l.TCP), "hub")
		tcp, _ = net.FileListener(f)
		_ = f.Close()
		l.TCP = -1
	}
	if l.UDP >= 0 {
		f := os.NewFile(uintptr(l.UDP), "hub")
		udp, _ = net.FilePacketConn(f)
		_ = f.Close()
		l.UDP = -1
	}
	return tcp, udp
}

// thaw has core go on with the agents that an earlier process has left, whose streams belong to forwards of r.
func (l *hubLegacy) thaw(core *hub.Hub, r *relay.Relay) {
	if l == nil {
		return
	}
	adopt := func(key tunnel.Key, session tunnel.ID) agent.Adopter { return adopter(r, key, session) }
	core.Thaw(l.Agents, adopt, func(all []tunnel.Numbered) { r.Adopted(lasting(all)) })
}

// adopter finds the owners of a session's streams among what an earlier process has left to r.
func adopter(r *relay.Relay, peer tunnel.Key, session tunnel.ID) agent.Adopter {
	return func(number uint64, _ tunnel.Call) (node.BearOptions, bool) {
		return r.Adopt(tunnel.Ticket(peer, session, number))
	}
}

func lasting(all []tunnel.Numbered) []node.Lasting {
	list := make([]node.Lasting, len(all))
	for i, b := range all {
		list[i] = b
	}
	return list
}

// thawTime is how long what an earlier process has left waits for its agents' forwards.
const thawTime = 30 * time.Second

// awaitThaw waits until the agents that an earlier process has left are this hub's, or there are none, or that takes too long.
func (h *hubDaemon) awaitThaw(ctx context.Context) {
	t := time.NewTimer(thawTime)
	defer t.Stop()
	select {
	case <-h.thawed:
	case <-t.C:
	case <-ctx.Done():
	}
}

// seen is that what an earlier process has left is seen to.
func (h *hubDaemon) seen() { h.thaw.Do(func() { close(h.thawed) }) }

// duplicateOf is another descriptor of a socket, which is closed with the process unless it is handed over; -1: there is none.
func duplicateOf(socket any) int {
	c, ok := socket.(syscall.Conn)
	if !ok {
		return -1
	}
	raw, err := c.SyscallConn()
	if err != nil {
		return -1
	}
	dup := -1
	if raw.Control(func(fd uintptr) { dup = duplicateFD(int(fd)) }) != nil {
		return -1
	}
	return dup
}
