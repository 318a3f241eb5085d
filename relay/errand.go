package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/relay/head"
)

var errLoop = fmt.Errorf("%w: it leads back to a proxy of this program", head.ErrDenied)

// An errand is what a head may have done on behalf of one client: the head.Env of one session. A head that serves many
// requests of one client, as that for HTTP, calls it from several goroutines.
type errand struct {
	relay   *Relay
	s       *stream
	f       *forward.Forward
	inward  bool // the client is of this host, or anyone is as good as it, so that this host's own networks are nothing new to it
	settled sync.Once
	counted sync.Once
	watched func() // ends the watching of a client whom the head carries itself; written under counted, nil: it does not

	mu      sync.Mutex
	user    *forward.User // who logged in; nil: nobody
	reached bool          // some target was
	where   string        // the one that was tried last
	over    bool          // the session is about to leave, or has left: nothing is noted any more
}

func newErrand(r *Relay, s *stream, f *forward.Forward, client netip.AddrPort) *errand {
	local := !client.IsValid() || client.Addr().IsLoopback()
	return &errand{relay: r, s: s, f: f, inward: local || f.Anyone}
}

// client is the connection as the head gets it.
func (e *errand) client(ctx context.Context) net.Conn {
	near := e.s.near
	if e.s.begun != nil {
		near = &retold{Conn: near, talk: *e.s.begun}
	}
	if e.s.upload.Slice() == 0 && e.s.download.Slice() == 0 {
		return near
	}
	return &shaped{Conn: near, ctx: ctx, upload: &e.s.upload, download: &e.s.download}
}

// sendAhead sends the target what the client has said beyond what the head needed.
func (e *errand) sendAhead(o head.Outcome) error {
	if len(o.Ahead) == 0 {
		return nil
	}
	n, err := o.Target.Write(o.Ahead)
	e.s.in.Add(uint64(n))
	return err
}

// NeedsLogin does not take another node's word for what its loopback is: who calls from beyond logs in.
func (e *errand) NeedsLogin() bool { return e.f.NeedsLogin() || !e.inward }

func (e *errand) Login(ctx context.Context, name, password string) error {
	if e.relay.login == nil {
		return head.ErrLogin
	}
	user, err := e.relay.login(ctx, e.f, e.s.client.Addr(), name, password)
	if err != nil {
		return fmt.Errorf("%w: %w", head.ErrLogin, err)
	}
	e.mu.Lock()
	e.user = &user
	e.mu.Unlock()
	return nil
}

func (e *errand) Settled() {
	e.settled.Do(func() { _ = e.s.near.SetDeadline(time.Time{}) })
}

// Count is also how a head says that it carries the client itself, who is then none that will be carried otherwise in a moment.
func (e *errand) Count(in, out int) {
	e.counted.Do(func() {
		e.watched = e.s.watchIdle()
		e.relay.slow.Add(-1)
	})
	e.s.in.Add(uint64(max(in, 0)))
	e.s.out.Add(uint64(max(out, 0)))
}

// Dial looks a name up itself where this host dials, so that what is judged is what is dialled.
func (e *errand) Dial(ctx context.Context, network, host string, port uint16) (net.Conn, error) {
	e.Settled()
	n, err := e.relay.nodes(e.f.DialsFrom())
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", e.f.DialsFrom(), err)
	}
	targets, err := e.targets(ctx, host, port)
	if err != nil {
		return nil, err
	}
	for i, to := range targets {
		var conn net.Conn
		if conn, err = dialOne(ctx, e.s.dialFor(n), address{network, to}, dialTime(e.f, i == len(targets)-1)); err == nil {
			e.note(reached(conn, address{network, to}), true)
			return conn, nil
		}
		e.note(to, false)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	err = forHead(err)
	if isScarce(err) && e.relay.pause.begin(err) {
		e.relay.log.Warn("accepting is paused", keyForward, e.f.Name, keyError, err)
	}
	return nil, err
}

// forHead is an error of a node's in a head's words.
func forHead(err error) error {
	if errors.Is(err, node.ErrRefused) {
		return fmt.Errorf("%w: %w", head.ErrDenied, err)
	}
	return err
}

// end says what came of it, when the head has returned. One that still dials breaks its contract, and changes nothing here.
func (e *errand) end() (where string, reached bool) {
	e.counted.Do(func() {})
	if e.watched != nil {
		e.watched()
		e.relay.slow.Add(1)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.over = true
	return e.where, e.reached
}

// note remembers where the session leads. A session counts as carried from its first target on.
func (e *errand) note(where string, reached bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.over {
		return
	}
	first := reached && !e.reached
	e.where, e.reached = where, e.reached || reached
	if reached {
		e.s.lead(where)
	}
	if first {
		e.s.task.reached(&e.s.session, &e.f.To[0])
	}
}

// targets is what to dial for a host: "host:port", in order. Where the node that dials looks names up, a name is judged as it is
// written.
func (e *errand) targets(ctx context.Context, host string, port uint16) ([]string, error) {
	text := strconv.Itoa(int(port))
	if e.f.DialsFrom() != forward.Host {
		addr, err := netip.ParseAddr(host)
		if err != nil {
			return []string{net.JoinHostPort(host, text)}, e.judgeName(host, port)
		}
		return []string{net.JoinHostPort(addr.String(), text)}, e.judge("", addr, port)
	}
	addrs, err := e.lookUp(ctx, host)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err == nil {
		host = ""
	}
	var list []string
	for _, addr := range addrs {
		if err = e.judge(host, addr, port); err == nil {
			list = append(list, net.JoinHostPort(addr.String(), text))
		}
	}
	if len(list) > 0 {
		err = nil
	}
	return list, err
}

func (e *errand) lookUp(ctx context.Context, host string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}, nil
	}
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return nil, fmt.Errorf("%w: %w", head.ErrNotFound, err)
	case err != nil:
		return nil, err
	}
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, nil
}

// policies are those that hold for the client: the forward's, and that of who logged in.
func (e *errand) policies() []forward.Policy {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.user == nil {
		return []forward.Policy{e.f.Policy}
	}
	return []forward.Policy{e.f.Policy, e.user.Policy}
}

// judge says whether the client may reach an address, nil if so. Clients from elsewhere reach neither this host nor networks
// that are not public, unless a rule permits it.
func (e *errand) judge(host string, addr netip.Addr, port uint16) error {
	permitted := false
	for _, p := range e.policies() {
		switch p.Judge(host, addr, port) {
		case forward.Denied:
			return head.ErrDenied
		case forward.Permitted:
			permitted = true
		}
	}
	here := e.f.DialsFrom() == forward.Host
	if !permitted && !e.inward && (forward.IsInward(addr) || here && e.relay.own.has(addr)) {
		return fmt.Errorf("%w: %s is this host or a private network, for which it takes a permit rule", head.ErrDenied, addr)
	}
	if here && e.relay.leadsBack(addr, port) {
		return errLoop
	}
	return nil
}

// judgeName is judge for a name that another node looks up, which a rule about networks cannot judge.
func (e *errand) judgeName(host string, port uint16) error {
	permitted := false
	for _, p := range e.policies() {
		switch p.JudgeName(host, port) {
		case forward.Denied:
			return head.ErrDenied
		case forward.Permitted:
			permitted = true
		}
	}
	if !permitted && !e.inward && forward.IsInwardName(host) {
		return fmt.Errorf("%w: %q is the node itself or an address in disguise, for which it takes a permit rule", head.ErrDenied, host)
	}
	return nil
}

// packetNode is this host, where it is the one that both ends of a UDP association are at.
func (e *errand) packetNode() (node.PacketNode, error) {
	if e.f.DialsFrom() != forward.Host || e.f.ListensAt() != forward.Host || !e.s.local.IsValid() {
		return nil, fmt.Errorf("%w: only this host carries UDP", head.ErrUnfit)
	}
	n, err := e.relay.nodes(forward.Host)
	if err != nil {
		return nil, err
	}
	packets, ok := n.(node.PacketNode)
	if !ok {
		return nil, head.ErrUnfit
	}
	return packets, nil
}

func (e *errand) ListenPacket(ctx context.Context) (net.PacketConn, error) {
	e.Settled()
	n, err := e.packetNode()
	if err != nil {
		return nil, err
	}
	return n.ListenPacket(ctx, "udp", netip.AddrPortFrom(e.s.local, 0).String())
}

func (e *errand) Packets(ctx context.Context) (head.PacketTarget, error) {
	n, err := e.packetNode()
	if err != nil {
		return nil, err
	}
	conn, err := n.ListenPacket(ctx, "udp", ":0")
	if err != nil {
		return nil, err
	}
	e.note("udp", true)
	return &packetErrand{errand: e, conn: conn, known: map[netip.AddrPort]bool{}, names: map[string]netip.Addr{}}, nil
}
