package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// sshNodeName is the node of `fairlead ssh`: the server.
const sshNodeName = "ssh"

// An sshPlan is forwardings as forwards, and the nodes that they name.
type sshPlan struct {
	warnings []string
	groups   []sshGroup
	nodes    map[string]node.Node
}

// An sshGroup is the forwards of one forwarding: two where that is for both loopback addresses, of which one suffices.
type sshGroup struct {
	text     string // as OpenSSH would write it, with the letter of its option
	forwards []*forward.Forward
	remote   *sshListenNode // that listens, for -R
}

// planSSH makes forwards of forwardings. Names of local bind addresses are looked up. report is told of ports that the server
// picked.
func planSSH(ctx context.Context, h *sshconfig.Host, server node.Node, report io.Writer) (*sshPlan, error) {
	p := &sshPlan{nodes: map[string]node.Node{sshNodeName: server}}
	for i, f := range h.LocalForwards {
		if err := p.local(ctx, h, fmt.Sprintf("L%d", i+1), f); err != nil {
			return nil, fmt.Errorf("-L %s: %w", f, err)
		}
	}
	for i, f := range h.DynamicForwards {
		if err := p.local(ctx, h, fmt.Sprintf("D%d", i+1), f); err != nil {
			return nil, fmt.Errorf("-D %s: %w", f, err)
		}
	}
	for i, f := range h.RemoteForwards {
		if err := p.remote(server, i+1, f, report); err != nil {
			return nil, fmt.Errorf("-R %s: %w", f, err)
		}
	}
	return p, nil
}

func (p *sshPlan) add(g sshGroup) error {
	for _, f := range g.forwards {
		if err := f.Validate(); err != nil {
			return err
		}
	}
	p.groups = append(p.groups, g)
	return nil
}

// local plans a forwarding that listens here.
func (p *sshPlan) local(ctx context.Context, h *sshconfig.Host, name string, f sshconfig.Forward) error {
	g := sshGroup{text: "-" + name[:1] + " " + f.String()}
	made := forward.Forward{Name: name, Origin: forward.OriginCLI, Via: sshNodeName, Carry: forward.CarryRelay}
	target, err := sshTarget(f)
	if err != nil {
		return err
	}
	made.To = []forward.Target{target}
	if f.Dynamic {
		made.Anyone = true // as ssh(1) has it; who asks for more than loopback is told
	}
	if f.Listen.Path != "" {
		path, err := filepath.Abs(f.Listen.Path)
		if err != nil {
			return err
		}
		made.At, made.Listen = "socket-"+name, forward.Listen{Path: path}
		p.nodes[made.At] = &sshSocketNode{Node: host.New(), mask: h.StreamLocalBindMask, unlink: h.StreamLocalBindUnlink}
		g.forwards = []*forward.Forward{&made}
		return p.add(g)
	}
	addrs, err := bindAddrs(ctx, h, f.Listen)
	if err != nil {
		return err
	}
	for i, addr := range addrs {
		one := made
		if i > 0 {
			one.Name = fmt.Sprintf("%s.%d", name, i+1)
		}
		one.Listen = forward.Listen{Networks: forward.TCP, Addr: addr, Ports: onePort(f.Listen.Port)}
		if f.Dynamic && !addr.IsLoopback() {
			p.warnings = append(p.warnings, g.text+": a proxy without a login; whoever reaches the port uses it as you")
		}
		g.forwards = append(g.forwards, &one)
	}
	return p.add(g)
}

func onePort(port uint16) forward.Ports {
	return forward.Ports{Ranges: []forward.Range{{First: port, Last: port}}}
}

var loopbacks = []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}

// bindAddrs are the addresses that a bind address stands for. The zero one is every address (ssh(1), -L).
func bindAddrs(ctx context.Context, h *sshconfig.Host, e sshconfig.End) ([]netip.Addr, error) {
	fits := func(a netip.Addr) bool {
		return h.AddressFamily == "any" || h.AddressFamily == "" || a.Is4() == (h.AddressFamily == "inet")
	}
	every := []netip.Addr{{}}
	switch h.AddressFamily {
	case "inet":
		every = []netip.Addr{netip.IPv4Unspecified()}
	case "inet6":
		every = []netip.Addr{netip.IPv6Unspecified()}
	}
	var found []netip.Addr
	switch {
	case !e.Bound && h.GatewayPorts, e.Bound && (e.Host == "" || e.Host == "*"):
		return every, nil
	case !e.Bound, e.Host == "localhost":
		found = loopbacks
	default:
		if a, err := netip.ParseAddr(e.Host); err == nil {
			return []netip.Addr{a.Unmap().WithZone("")}, nil
		}
		list, err := net.DefaultResolver.LookupNetIP(ctx, "ip", e.Host)
		if err != nil {
			return nil, fmt.Errorf("bind address: %w", err)
		}
		found = list
	}
	var kept []netip.Addr
	for _, a := range found {
		if a = a.Unmap(); fits(a) {
			kept = append(kept, a)
		}
	}
	if len(kept) == 0 {
		return nil, fmt.Errorf("the bind address %s has no address of the family that was asked for", e.Host)
	}
	return kept, nil
}

// sshTarget is where a forwarding leads.
func sshTarget(f sshconfig.Forward) (forward.Target, error) {
	switch {
	case f.Dynamic:
		return forward.Target{Head: forward.HeadSocks}, nil
	case f.To.Path != "":
		return forward.Target{Path: f.To.Path}, nil
	case f.To.Host == "":
		return forward.Target{}, errors.New("it leads to no host; write it like port:host:hostport")
	}
	t := forward.Target{Ports: forward.Range{First: f.To.Port, Last: f.To.Port}}
	if a, err := netip.ParseAddr(f.To.Host); err == nil {
		t.Addr = a
	} else {
		t.Host = f.To.Host
	}
	return t, nil
}

// remote plans a forwarding that the server listens for. Its node knows what to ask the server for: a forward's own listen
// has no names, no port 0, and no difference between 127.0.0.1 and localhost.
func (p *sshPlan) remote(server node.Node, i int, f sshconfig.Forward, report io.Writer) error {
	name := fmt.Sprintf("R%d", i)
	target, err := sshTarget(f)
	if err != nil {
		return err
	}
	if target.Path != "" {
		if target.Path, err = filepath.Abs(target.Path); err != nil {
			return err
		}
	}
	far := &sshListenNode{Node: server, end: f.Listen, to: f, report: report}
	made := &forward.Forward{
		Name: name, Origin: forward.OriginCLI, At: sshNodeName + "-" + name, To: []forward.Target{target}, Carry: forward.CarryRelay,
		Listen: forward.Listen{Networks: forward.TCP, Addr: loopbacks[0], Ports: onePort(max(f.Listen.Port, 1))},
	}
	if f.Listen.Path != "" {
		made.Listen = forward.Listen{Path: f.Listen.Path}
	}
	made.Anyone = f.Dynamic // the server says who may call, as of every -R
	p.nodes[made.At] = far
	return p.add(sshGroup{text: "-R " + f.String(), forwards: []*forward.Forward{made}, remote: far})
}

// An sshListenNode listens at the server for one -R, in the words of ssh(1).
type sshListenNode struct {
	node.Node
	end    sshconfig.End
	to     sshconfig.Forward
	report io.Writer

	mu       sync.Mutex
	listener net.Listener // the last one that was opened
	first    node.State   // of the listener, before the server was asked
}

// Listen asks for what was typed, whatever the forward has in its place: no bind address is "localhost", and "*" or nothing
// before the colon is every address (ssh(1), -R).
func (n *sshListenNode) Listen(ctx context.Context, _, addr string) (net.Listener, error) {
	if n.end.Path != "" {
		l, err := n.Node.Listen(ctx, "unix", addr)
		n.opened(l)
		return l, err
	}
	bind := "localhost"
	if n.end.Bound {
		bind = n.end.Host
	}
	l, err := n.Node.Listen(ctx, "tcp", net.JoinHostPort(bind, strconv.Itoa(int(n.end.Port))))
	if err != nil {
		return nil, err
	}
	n.opened(l)
	if b, ok := l.(interface{ Bound() <-chan net.Addr }); ok && n.end.Port == 0 {
		return &sshListener{Listener: l, ended: n.reportPorts(b.Bound())}, nil
	}
	return l, nil
}

// An sshListener reports the port that the server picked until it is closed.
type sshListener struct {
	net.Listener
	ended func()
}

func (l *sshListener) Close() error {
	defer l.ended()
	return l.Listener.Close()
}

// State is that of the listener below.
func (l *sshListener) State() node.State {
	if s, ok := l.Listener.(node.Stated); ok {
		return s.State()
	}
	return node.State{Up: true}
}

// reportPorts says which port the server picked, as OpenSSH does. The returned function ends that.
func (n *sshListenNode) reportPorts(bound <-chan net.Addr) (end func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		last := 0
		for {
			select {
			case addr, ok := <-bound:
				if !ok {
					return
				}
				if t, isTCP := addr.(*net.TCPAddr); isTCP && t.Port != last {
					last = t.Port
					fmt.Fprintf(n.report, "Allocated port %d for remote forward to %s\n", t.Port, n.goal())
				}
			case <-stop:
				return
			}
		}
	}()
	return func() {
		close(stop)
		<-done
	}
}

func (n *sshListenNode) goal() string {
	if n.to.Dynamic {
		return "socks:0"
	}
	if n.to.To.Path != "" {
		return n.to.To.Path
	}
	return n.to.To.Host + ":" + strconv.Itoa(int(n.to.To.Port))
}

func (n *sshListenNode) opened(l net.Listener) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.listener = l
	if s, ok := l.(node.Stated); ok {
		n.first = s.State()
	}
}

// settled reports whether the server has answered, and whether it listens.
func (n *sshListenNode) settled() (up, answered bool) {
	s := n.state()
	n.mu.Lock()
	defer n.mu.Unlock()
	return s.Up, !s.Since.Equal(n.first.Since)
}

// state is how the listener at the server is doing.
func (n *sshListenNode) state() node.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	if s, ok := n.listener.(node.Stated); ok {
		return s.State()
	}
	return node.State{Up: n.listener != nil}
}

// An sshSocketNode is this host, with unix sockets that StreamLocalBindMask and StreamLocalBindUnlink speak about.
type sshSocketNode struct {
	node.Node
	mask   uint32
	unlink bool
}

// Listen listens at a socket that nobody else can use meanwhile: it gets its place when it has its mode.
func (n *sshSocketNode) Listen(ctx context.Context, network, path string) (net.Listener, error) {
	if network != "unix" {
		return n.Node.Listen(ctx, network, path)
	}
	if info, err := os.Lstat(path); err == nil && n.unlink && info.Mode()&os.ModeSocket != 0 {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".fairlead")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hidden := filepath.Join(dir, "s")
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", hidden)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err = os.Chmod(hidden, os.FileMode(0o666&^n.mask)); err == nil {
		err = os.Link(hidden, path) // unlike a renaming, it replaces nothing
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &sshSocket{Listener: l, path: path}, nil
}

// An sshSocket takes its file away when it is closed.
type sshSocket struct {
	net.Listener
	path string
}

func (s *sshSocket) Close() error {
	_ = os.Remove(s.path)
	return s.Listener.Close()
}

// sshWait is how long forwards may take until they stand.
const sshWait = 15 * time.Second
