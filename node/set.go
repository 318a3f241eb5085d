package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/fairlead-net/fairlead/forward"
)

// A Set is the nodes that forwards can name: this host, those that were declared, and guests, which come and go by themselves.
//
// Apply and the guests' methods may be called before Run and from anywhere; a declared node runs from the moment when both it
// and Run are there until it is no longer declared or Run ends.
type Set struct {
	host Node
	open func(Spec) (Remote, error)
	log  *slog.Logger

	mu      sync.RWMutex
	running context.Context //nolint:containedctx // Run's, while it runs: what starts later ends with it, too
	wg      sync.WaitGroup
	nodes   map[string]*member
	guests  map[string]Node
}

// A member is a declared node.
type member struct {
	spec Spec
	node Remote // nil when it could not be made
	err  error
	stop context.CancelFunc // nil while it does not run
}

// NewSet returns a set in which nothing is declared. open makes a node of a declaration without starting it.
func NewSet(host Node, open func(Spec) (Remote, error), log *slog.Logger) *Set {
	return &Set{host: host, open: open, log: log, nodes: map[string]*member{}, guests: map[string]Node{}}
}

// Node finds a node by its name. The error says what could be meant.
func (s *Set) Node(name string) (Node, error) {
	if name == forward.Host || name == "" {
		return s.host, nil
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	if m := s.nodes[name]; m != nil {
		if m.err != nil {
			return nil, m.err
		}
		return m.node, nil
	}
	if g := s.guests[name]; g != nil {
		return g, nil
	}
	names := []string{forward.Host}
	for n := range s.nodes {
		names = append(names, n)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("there is no node %q; declared are %s", name, strings.Join(names, ", "))
}

// Spec is the declaration of a node.
func (s *Set) Spec(name string) (Spec, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if m := s.nodes[name]; m != nil {
		return m.spec, true
	}
	return Spec{}, false
}

// Apply makes specs the declared nodes. One that is declared as before keeps its connections, unless one that it is reached
// through has changed.
func (s *Set) Apply(specs []Spec) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wanted := make(map[string]Spec, len(specs))
	for _, spec := range specs {
		wanted[spec.Name] = spec
	}
	for name, m := range s.nodes {
		if spec, ok := wanted[name]; ok && m.err == nil && spec.Equal(m.spec) {
			continue
		}
		if m.stop != nil {
			m.stop()
		}
		delete(s.nodes, name)
	}
	for _, spec := range specs {
		if s.nodes[spec.Name] == nil {
			m := &member{spec: spec}
			if m.node, m.err = s.open(spec); m.err != nil {
				s.log.Error("a node cannot be used", keyNode, spec.Name, keyError, m.err)
			}
			s.nodes[spec.Name] = m
			s.startLocked(m)
		}
	}
}

// Join adds a guest. A guest of that name is replaced.
func (s *Set) Join(name string, guest Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.guests[name] = guest
}

// Leave takes a guest away, unless another one has its name by now.
func (s *Set) Leave(name string, guest Node) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.guests[name] == guest {
		delete(s.guests, name)
	}
}

// Run runs the declared nodes until ctx ends.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	s.running = ctx
	for _, m := range s.nodes {
		s.startLocked(m)
	}
	s.mu.Unlock()
	<-ctx.Done()
	s.mu.Lock()
	s.running = nil
	s.mu.Unlock()
	s.wg.Wait()
	return nil
}

func (s *Set) startLocked(m *member) {
	if s.running == nil || m.node == nil || m.stop != nil {
		return
	}
	ctx, stop := context.WithCancel(s.running)
	m.stop = stop
	s.wg.Go(func() {
		defer stop()
		if err := m.node.Run(ctx); err != nil && ctx.Err() == nil {
			s.log.Error("a node has ended", keyNode, m.spec.Name, keyError, err)
		}
	})
}

// Keys of log attributes.
const (
	keyNode  = "node"
	keyError = "err"
)
