// Package sshnode is the kind of node that is an SSH server which we log in to.
//
// A Node keeps one or more SSH connections up and dials and listens over them. It verifies host keys always, logs in with
// keys, agents, certificates and passwords, and comes back by itself. The protocol is golang.org/x/crypto/ssh; here is what a
// client does with it. What ssh_config says arrives as a Resolved: files of that kind are not read here. Which forwards use
// the node is decided elsewhere.
package sshnode

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// Caps is what every SSH server can do as a node, as far as its configuration permits.
func Caps() node.Caps { return node.Caps{Unix: true} }

// Options are what a Node needs of the program around it. The zero Options is a node that asks nobody and reads no
// ssh_config.
type Options struct {
	Log *slog.Logger // nil discards
	// Through finds the node that a Spec names as its jump. nil: there are none.
	Through func(name string) (node.Node, error)
	// Ask puts a question to whoever sits there, and shows what is typed if echo is set. nil: nobody is there, so that
	// what would need an answer fails with an error that says what to do.
	Ask func(ctx context.Context, prompt string, echo bool) (string, error)
	// Resolve says what ssh_config has for a host. nil: nothing.
	Resolve func(ctx context.Context, q Query) (Resolved, error)
	// Secrets keeps the keys that passphrases have opened. Nodes of one process may share it; nil is one of its own.
	Secrets *Secrets
	// Sessions lets Client work, which takes the library's own implementation of the protocol; forwarding is faster without.
	Sessions bool
	// MustConnect makes Run end with the error of the first connection if that does not come about, as ssh(1) does. What
	// breaks later is mended in any case.
	MustConnect bool
}

// A Node is an SSH server. Create it with New; it is of use while Run runs.
type Node struct {
	spec     node.Spec
	ssh      node.SSH
	query    Query
	o        Options
	log      *slog.Logger
	jumps    []string      // the hops that this node must take, nearest first, whatever ssh_config says
	depth    int           // of hops in front of hops, so that a loop in ssh_config ends
	first    chan struct{} // closed when the first connection has come up
	tendable chan struct{} // there are listeners in waiting; capacity 1
	asking   sync.Mutex    // one question at a time

	plain atomic.Bool // the server speaks nothing that sshwire does

	mu        sync.Mutex
	changed   chan struct{} // closed and replaced when what follows changes
	links     []*link
	state     node.State
	next      time.Time // of the next try, while there is no link
	lastErr   error
	running   bool
	ended     bool
	listeners map[*listener]bool
	waiting   []*listener // opened and not yet tended
	hops      map[string]*Node
	starting  []*Node // hops whose Run has to be started
	password  string  // that was right
}

var (
	_ node.Remote     = (*Node)(nil)
	_ node.Introducer = (*Node)(nil)
)

// New returns the node that spec declares. It connects to nothing before Run.
func New(spec node.Spec, o Options) (*Node, error) {
	if spec.SSH == nil {
		return nil, fmt.Errorf("node %s is not an SSH server: the specification has no target", spec.Name)
	}
	q, err := ParseTarget(spec.SSH.Target)
	if err != nil {
		return nil, fmt.Errorf("node %s: %w", spec.Name, err)
	}
	if len(spec.SSH.Options) > 0 && o.Resolve == nil {
		return nil, fmt.Errorf("node %s: options of ssh_config need something that understands them", spec.Name)
	}
	if spec.SSH.Jump != "" && o.Through == nil {
		return nil, fmt.Errorf("node %s: there is no node %q to jump over", spec.Name, spec.SSH.Jump)
	}
	q.Config, q.Options = spec.SSH.Config, spec.SSH.Options
	if o.Secrets == nil {
		o.Secrets = &Secrets{}
	}
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Node{
		spec: spec, ssh: *spec.SSH, query: q, o: o, log: log.With("node", spec.Name),
		first: make(chan struct{}), tendable: make(chan struct{}, 1), changed: make(chan struct{}),
		state:     node.State{Why: "not started", Since: time.Now()},
		listeners: map[*listener]bool{}, hops: map[string]*Node{},
	}, nil
}

// Caps is what the node can do.
func (n *Node) Caps() node.Caps { return Caps() }

// State is up while there is at least one connection.
func (n *Node) State() node.State {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.stateLocked()
}

func (n *Node) stateLocked() node.State {
	s := n.state
	if wait := time.Until(n.next).Round(time.Second); !s.Up && !n.ended && !n.next.IsZero() {
		s.Why += fmt.Sprintf("; next try in %s", max(wait, time.Second))
	}
	return s
}

// Err is why the last connection did not come about, or broke; nil if none did since the node came up. HostKeyError and
// AuthError are in its chain where they are the reason.
func (n *Node) Err() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.lastErr
}

// Ready waits for a connection.
func (n *Node) Ready(ctx context.Context) error {
	l, err := n.acquire(ctx)
	if err == nil {
		l.release()
	}
	return err
}

// Client waits for a connection and returns it. It belongs to the node: open sessions on it, and do not close it.
func (n *Node) Client(ctx context.Context) (*ssh.Client, error) {
	l, err := n.acquire(ctx)
	if err != nil {
		return nil, err
	}
	l.release()
	w, ok := l.wire.(*plainWire)
	if !ok {
		return nil, errNoSessions
	}
	return w.client, nil
}

var errNoSessions = errors.New("this node is for forwarding alone; Options.Sessions was not set")

// Dial connects from the server to a TCP address or a unix socket. The server resolves names.
func (n *Node) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return n.DialFor(ctx, netip.AddrPort{}, network, addr)
}

// DialFor is Dial, and tells the server on whose behalf.
func (n *Node) DialFor(ctx context.Context, client netip.AddrPort, network, addr string) (net.Conn, error) {
	open, err := openFor(client, network, addr)
	if err != nil {
		return nil, err
	}
	for {
		l, err := n.acquire(ctx)
		if err != nil {
			return nil, err
		}
		c, err := l.dial(ctx, open)
		if err == nil {
			return c, nil
		}
		// A connection that died under the question has answered nothing: the next one is asked.
		if errors.Is(err, sshchan.ErrLost) && ctx.Err() == nil {
			select {
			case <-l.done:
			case <-ctx.Done():
			}
			continue
		}
		return nil, err
	}
}

// ready is acquire without waiting: nil when there is no connection.
func (n *Node) ready() *link {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.readyLocked()
}

func (n *Node) readyLocked() *link {
	var best *link
	for _, l := range n.links {
		if l.alive() && (best == nil || l.channels.Load() < best.channels.Load()) {
			best = l
		}
	}
	if best != nil {
		best.channels.Add(1)
	}
	return best
}

// acquire waits for a connection and counts one more channel on it; of several it is the one with the fewest.
func (n *Node) acquire(ctx context.Context) (*link, error) {
	for {
		n.mu.Lock()
		if best := n.readyLocked(); best != nil {
			n.mu.Unlock()
			return best, nil
		}
		changed, ended, state, last := n.changed, n.ended, n.stateLocked(), n.lastErr
		n.mu.Unlock()
		if ended {
			return nil, &awayError{kind: node.ErrClosed, why: state.Why, cause: last}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, &awayError{kind: node.ErrAway, why: n.State().Why, cause: ctx.Err()}
		}
	}
}

// changedLocked wakes everybody who waits for a connection.
func (n *Node) changedLocked() {
	close(n.changed)
	n.changed = make(chan struct{})
}
