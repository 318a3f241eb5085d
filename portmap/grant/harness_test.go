package grant

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/table"
)

// A carrier is a fake that remembers what it was given.
type carrier struct {
	mu      sync.Mutex
	want    []*forward.Forward
	applies int
	changes int // forwards that were others than in the last Apply
	fail    map[string]error
}

func (c *carrier) Apply(_ context.Context, list forward.List) map[string]error {
	want := list.Slice()
	c.mu.Lock()
	defer c.mu.Unlock()
	had := map[*forward.Forward]bool{}
	for _, f := range c.want {
		had[f] = true
	}
	for _, f := range want {
		if !had[f] {
			c.changes++
		}
	}
	c.want = want
	c.applies++
	return maps.Clone(c.fail)
}

func (c *carrier) Stats() map[string]forward.Stats { return nil }

func (c *carrier) refuse(name string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fail = map[string]error{name: err}
}

func (c *carrier) counts() (applies, changes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.applies, c.changes
}

// has is what the carrier carries: "name listen to", one a line.
func (c *carrier) has() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var lines []string
	for _, f := range c.want {
		if f.Carry == forward.CarryKernel && !f.Disabled {
			lines = append(lines, fmt.Sprint(f.Name, " ", f.Listen, " ", f.To[0]))
		}
	}
	return strings.Join(lines, "\n")
}

// lan is Neighbours that a test writes down.
type lan map[netip.Addr][2]string

func (l lan) Lookup(a netip.Addr) (string, string) { return l[a][0], l[a][1] }

// A house is a desk at a table with a fake carrier.
type house struct {
	*Desk
	t       testing.TB
	table   *table.Table
	carrier *carrier
	store   store.Store
	lan     lan
	busy    map[uint16]bool
	log     *strings.Builder
	stop    func()

	mu      sync.Mutex
	outside Outside
	moved   chan struct{}
}

var (
	wan   = netip.MustParseAddr("203.0.113.5")
	one   = netip.MustParseAddr("192.168.1.20")
	two   = netip.MustParseAddr("192.168.1.30")
	one6  = netip.MustParseAddr("2001:db8:1::20")
	one6b = netip.MustParseAddr("2001:db8:1::2020")
)

const (
	macOne = "02:00:00:00:00:20"
	macTwo = "02:00:00:00:00:30"
)

var facts = kernel.Facts{
	Routes4: true, Routes6: true, Default4: "wan", Default6: "wan",
	Addrs: []kernel.Addr{
		{Prefix: netip.MustParsePrefix("203.0.113.5/24"), Interface: "wan"}, {Prefix: netip.MustParsePrefix("192.168.1.1/24"), Interface: "lan"},
	},
}

// lockedWriter lets a test read what is logged meanwhile.
type lockedWriter struct {
	mu  *sync.Mutex
	out *strings.Builder
}

func (w lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.out.Write(b)
}

func newHouse(t testing.TB, s store.Store, spec *portmap.Spec) *house {
	h := &house{t: t, store: s, carrier: new(carrier), busy: map[uint16]bool{}, outside: Outside{Addr: wan}, moved: make(chan struct{}), log: new(strings.Builder)}
	h.lan = lan{one: {macOne, "xbox"}, two: {macTwo, ""}, one6: {macOne, "xbox"}, one6b: {macOne, "xbox"}}
	log := slog.New(slog.NewTextHandler(lockedWriter{&h.mu, h.log}, &slog.HandlerOptions{Level: slog.LevelInfo}))
	book := NewBook()
	h.table = table.New(table.Options{
		Kernel: h.carrier, Relay: new(carrier), Facts: func() (kernel.Facts, error) { return facts, nil }, Store: s, Lease: book.Note, Log: log,
	})
	h.Desk = New(Options{
		Book: book, Table: h.table, Store: s, Neighbours: h.lan, Log: log,
		Outside: func() (Outside, <-chan struct{}) {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.outside, h.moved
		},
		Busy: func(_ forward.Networks, at netip.AddrPort) bool { return h.busy[at.Port()] },
	})
	h.Configure(spec)
	return h
}

// start runs the table and the desk until stop is called or the test ends.
func (h *house) start(file ...*forward.Forward) *house {
	h.replace(file...)
	ctx, cancel := context.WithCancel(context.Background())
	counting, counted := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() {
		done <- h.table.Run(counting)
	}()
	go func() {
		defer counted()
		done <- h.Run(ctx)
	}()
	<-h.open
	h.stop = sync.OnceFunc(func() {
		cancel()
		for range 2 {
			if err := <-done; err != nil {
				h.t.Error(err)
			}
		}
	})
	h.t.Cleanup(h.stop)
	return h
}

// inHouse runs test in a bubble with a clock of its own, which also finds goroutines that are left behind.
func inHouse(t *testing.T, spec *portmap.Spec, test func(h *house)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		h := newHouse(t, store.Memory(), spec).start()
		test(h)
		h.stop()
	})
}

func (h *house) replace(file ...*forward.Forward) {
	h.t.Helper()
	if _, err := h.table.ReplaceFile(context.Background(), &config.Config{Forwards: file}); err != nil {
		h.t.Fatal(err)
	}
}

// goTo makes addr this host's address.
func (h *house) goTo(o Outside) {
	h.mu.Lock()
	h.outside = o
	close(h.moved)
	h.moved = make(chan struct{})
	h.mu.Unlock()
	synctest.Wait()
}

// ask maps "PROTOCOL tcp|udp CLIENT:INTERNAL [EXTERNAL]"; "!" after the external port is Exact.
func (h *house) ask(text string) portmap.Result {
	h.t.Helper()
	return h.Map(context.Background(), []portmap.Request{request(h.t, text)})[0]
}

func request(t testing.TB, text string) portmap.Request {
	t.Helper()
	w := strings.Fields(text)
	r := portmap.Request{Protocol: portmap.Protocol(w[0]), Lifetime: time.Hour}
	if r.Network = forward.TCP; w[1] == "udp" {
		r.Network = forward.UDP
	}
	r.Internal = netip.MustParseAddrPort(w[2])
	r.Client = r.Internal.Addr()
	if len(w) > 3 {
		port, exact := strings.CutSuffix(w[3], "!")
		r.Exact = exact
		if _, err := fmt.Sscan(port, &r.External); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// want asks and compares the public endpoint, or the error.
func (h *house) want(text, public string) portmap.Result {
	h.t.Helper()
	r := h.ask(text)
	got := r.Public.String()
	if r.Err != nil {
		got = r.Err.Error()
	}
	if got != public && (r.Err == nil || !strings.Contains(got, public)) {
		h.t.Errorf("%s: got %s, want %s", text, got, public)
	}
	return r
}

func (h *house) wantCarried(lines ...string) {
	h.t.Helper()
	slices.Sort(lines)
	if got, want := h.carrier.has(), strings.Join(lines, "\n"); got != want {
		h.t.Errorf("the kernel carries\n%s\nwant\n%s", got, want)
	}
}

func (h *house) logged(text string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Contains(h.log.String(), text)
}

func spec(t testing.TB, name string, origin forward.Origin, s config.Spec) *forward.Forward {
	t.Helper()
	f, err := s.Forward(name, origin)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// admin is a forward of the file.
func admin(t testing.TB, name, listen string) *forward.Forward {
	return spec(t, name, forward.OriginFile, config.Spec{Listen: listen, To: config.Strings{"192.168.1.9:8080"}})
}

func elapse(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
