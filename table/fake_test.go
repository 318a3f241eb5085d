package table

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
)

// A carrier is a fake Carrier that remembers what it was given.
type carrier struct {
	mu      sync.Mutex
	want    []*forward.Forward
	applies int
	fail    map[string]error
	stats   map[string]forward.Stats
	during  func(want []*forward.Forward) // called by Apply, before it answers
}

func (c *carrier) Apply(_ context.Context, list forward.List) map[string]error {
	want := list.Slice()
	c.mu.Lock()
	during := c.during
	c.mu.Unlock()
	if during != nil {
		during(want)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !slices.IsSortedFunc(want, func(f, g *forward.Forward) int { return strings.Compare(f.Name, g.Name) }) {
		panic("the list is not sorted")
	}
	c.want = want
	c.applies++
	errs := map[string]error{}
	for _, f := range want {
		if err := c.fail[f.Name]; err != nil {
			errs[f.Name] = err
		}
	}
	return errs
}

func (c *carrier) Stats() map[string]forward.Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.stats)
}

// watch has fn called by each Apply before it answers.
func (c *carrier) watch(fn func(want []*forward.Forward)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.during = fn
}

// has is the names that the carrier was last given.
func (c *carrier) has() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for _, f := range c.want {
		names = append(names, f.Name)
	}
	return strings.Join(names, " ")
}

func (c *carrier) get(name string) *forward.Forward {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, f := range c.want {
		if f.Name == name {
			return f
		}
	}
	return nil
}

func (c *carrier) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applies
}

func (c *carrier) refuse(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.fail == nil {
		c.fail = map[string]error{}
	}
	c.fail[name] = err
}

func (c *carrier) pass(name string, s forward.Stats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stats == nil {
		c.stats = map[string]forward.Stats{}
	}
	c.stats[name] = s
}

func (c *carrier) forget(names ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range names {
		delete(c.stats, name)
	}
}

// A house is a table with fakes around it.
type house struct {
	*Table
	t             *testing.T
	kernel, relay *carrier
	store         store.Store

	mu    sync.Mutex
	facts kernel.Facts
	blind error // nothing can be found out
	stop  func()
}

// router is a host that the kernel carrier works on.
var router = kernel.Facts{
	Routes4: true, Routes6: true, Default4: "wan", Default6: "wan",
	Addrs: []kernel.Addr{{Prefix: prefix("203.0.113.5/24"), Interface: "wan"}, {Prefix: prefix("192.168.1.1/24"), Interface: "lan"}},
}

func newHouse(t *testing.T, s store.Store) *house {
	h := &house{t: t, kernel: new(carrier), relay: new(carrier), store: s, facts: router}
	h.Table = New(Options{Kernel: h.kernel, Relay: h.relay, Store: s, Facts: func() (kernel.Facts, error) {
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.facts, h.blind
	}})
	return h
}

func (h *house) setFacts(f kernel.Facts) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.facts = f
}

// start runs the table until stop is called or the test ends.
func (h *house) start() *house {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- h.Run(ctx) }()
	select {
	case <-h.Ready():
	case err := <-done:
		h.t.Fatalf("Run: %v", err)
	}
	h.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			h.t.Errorf("Run: %v", err)
		}
	})
	h.t.Cleanup(h.stop)
	return h
}

// inHouse runs test in a bubble with a clock of its own, which also finds goroutines that are left behind.
func inHouse(t *testing.T, test func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, store.Memory())
		test(h)
		if h.stop != nil {
			h.stop()
		}
	})
}

func (h *house) put(f *forward.Forward) Status {
	h.t.Helper()
	s, err := h.Put(h.t.Context(), f)
	if err != nil {
		h.t.Fatal(err)
	}
	return s
}

func (h *house) replace(list ...*forward.Forward) Change {
	h.t.Helper()
	c, err := h.ReplaceFile(h.t.Context(), &config.Config{Forwards: list})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

// look is one line for each forward: its name, origin, state and detail.
func (h *house) look() string {
	var lines []string
	for _, s := range h.Snapshot() {
		line := s.Forward.Name + " " + string(s.Forward.Origin) + " " + s.State.String()
		if s.State != forward.StateUp && s.Detail != "" {
			line += " (" + s.Detail + ")"
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, ", ")
}

func (h *house) wantLook(want string) {
	h.t.Helper()
	if got := h.look(); got != want {
		h.t.Errorf("the table has %s\nwant %s", got, want)
	}
}

func (h *house) wantCarried(inKernel, inRelay string) {
	h.t.Helper()
	if k, r := h.kernel.has(), h.relay.has(); k != inKernel || r != inRelay {
		h.t.Errorf("the kernel has %q, the relay %q\nwant       %q           %q", k, r, inKernel, inRelay)
	}
}

var errBusy = errors.New("address already in use")

// spec makes a forward of the words of the configuration.
func spec(t testing.TB, name string, origin forward.Origin, s config.Spec) *forward.Forward {
	t.Helper()
	f, err := s.Forward(name, origin)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// viaKernel is a forward that the kernel carries and that has no companions; viaRelay one that the relay carries.
func viaKernel(t testing.TB, name string, origin forward.Origin, listen string) *forward.Forward {
	return spec(t, name, origin, config.Spec{Listen: "203.0.113.5:" + listen, To: config.Strings{"192.168.1.10:8080"}})
}

func viaRelay(t testing.TB, name string, origin forward.Origin, listen string) *forward.Forward {
	return spec(t, name, origin, config.Spec{Listen: listen, To: config.Strings{"app.internal:8080"}})
}

// elapse lets time pass, and everybody finish what that set off.
func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
