package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/relay/health"
)

// A holedNode is this host with targets that swallow every packet. It has no sockets to give to the engine.
type holedNode struct {
	*host.Node

	mu    sync.Mutex
	holes map[string]bool
	calls map[string]int
}

func newHoledNode(holes ...string) *holedNode {
	n := &holedNode{Node: host.New(), holes: map[string]bool{}, calls: map[string]int{}}
	for _, hole := range holes {
		n.holes[hole] = true
	}
	return n
}

// Connect has another signature than the engine's, which hides that of the host.
func (n *holedNode) Connect() {}

func (n *holedNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	n.mu.Lock()
	hole := n.holes[addr]
	n.calls[addr]++
	n.mu.Unlock()
	if hole {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	return n.Node.Dial(ctx, network, addr)
}

func (n *holedNode) fill(addr string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.holes, addr)
}

// targetStats is how the i-th target of x is doing.
func targetStats(r *Relay, i int) forward.TargetStats { return r.Stats()["x"].Targets[i] }

func stateBecomes(t *testing.T, r *Relay, i int, state health.State) {
	t.Helper()
	eventually(t, fmt.Sprintf("target %d to be %v", i, state), func() bool { return targetStats(r, i).State == state.String() })
}

// TestSilentTarget has a first target that never answers. Its first client gets the second one, those that follow do not
// try the first any more, and when it answers again they do.
func TestSilentTarget(t *testing.T) {
	first, second := serve(t, "tcp", "127.0.0.1:0", say("first")).String(), serve(t, "tcp", "127.0.0.1:0", say("second")).String()
	n := newHoledNode(first)
	r := startRelayOn(t, n)
	port := freePort(t)
	apply(t, r, fwd(t, "x", port, first, second))
	for range 5 {
		if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "second" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	if s := r.Stats()["x"]; s.Refused != 0 || s.Total != 5 || s.Failing != "" || !strings.HasPrefix(s.Note, "1 of 2 targets: "+first+" is failing: no answer (since ") {
		t.Errorf("stats are %+v", s)
	}
	n.mu.Lock()
	tried := n.calls[first]
	n.mu.Unlock()
	if tried > 3 { // one client, and the relay itself once or twice
		t.Errorf("the silent target was tried %d times", tried)
	}
	n.fill(first)
	stateBecomes(t, r, 0, health.Up)
	if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "first" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestSlowTargets has targets of which none answers within a client's patience: the race goes on until one does.
func TestSlowTargets(t *testing.T) {
	first, second := serve(t, "tcp", "127.0.0.1:0", say("first")).String(), serve(t, "tcp", "127.0.0.1:0", say("second")).String()
	n := newHoledNode(first, second)
	r := startRelayOn(t, &reopening{n, second})
	port := freePort(t)
	apply(t, r, fwd(t, "x", port, first, second))
	if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "second" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// A reopening node waits with one target until another dial has given up waiting for it alone.
type reopening struct {
	*holedNode
	slow string
}

func (n *reopening) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if addr != n.slow {
		return n.holedNode.Dial(ctx, network, addr)
	}
	select {
	case <-time.After(2 * patienceFirst):
	case <-ctx.Done():
	}
	return n.Node.Dial(ctx, network, addr)
}

func TestDeadTargetIsTriedOnce(t *testing.T) {
	bothWays(t, func(t *testing.T, r *Relay) {
		dead, port := freePort(t), freePort(t)
		alive := serve(t, "tcp", "127.0.0.1:0", say("alive")).String()
		f := fwd(t, "x", port, "127.0.0.1:"+dead, alive)
		f.Balance = forward.BalanceRoundRobin
		apply(t, r, f)
		for range 6 {
			if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "alive" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		}
		if s := targetStats(r, 0); s.State != "failing" || s.Why != "connection refused" || s.Since.IsZero() {
			t.Errorf("the dead target is %+v", s)
		}
		serve(t, "tcp", "127.0.0.1:"+dead, say("back"))
		stateBecomes(t, r, 0, health.Up)
		got := ""
		for range 2 {
			answer, _ := readAll(t, dial(t, "tcp", "127.0.0.1:"+port))
			got += answer + " "
		}
		if got != "back alive " && got != "alive back " {
			t.Errorf("then clients get %q", got)
		}
	})
}

// bothWays runs a test with targets dialled by the engine, where there is one, and by goroutines.
func bothWays(t *testing.T, test func(t *testing.T, r *Relay)) {
	t.Run("engine", func(t *testing.T) { test(t, startRelay(t)) })
	t.Run("goroutines", func(t *testing.T) { test(t, startRelayOn(t, newHoledNode())) })
}

// TestCheckHTTP lets a target accept connections and be unwell: no client gets there.
func TestCheckHTTP(t *testing.T) {
	var status atomic.Int64
	status.Store(http.StatusInternalServerError)
	var asked atomic.Int64
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if req.Host != "app.example" || req.URL.Path != "/health" {
			t.Errorf("the target was asked for %s%s", req.Host, req.URL.Path)
		}
		asked.Add(1)
		w.WriteHeader(int(status.Load()))
	}))
	defer web.Close()
	sick := strings.TrimPrefix(web.URL, "http://")
	well := httptest.NewServer(http.NotFoundHandler())
	defer well.Close()
	well.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	port := freePort(t)
	f := fwd(t, "x", port, sick, strings.TrimPrefix(well.URL, "http://"))
	f.Check, _ = forward.ParseCheck("http://app.example/health")
	f.Check.Interval = 10 * time.Millisecond
	r := startRelay(t)
	apply(t, r, f)
	stateBecomes(t, r, 0, health.Down)
	stateBecomes(t, r, 1, health.Up)
	if s := r.Stats()["x"]; s.Failing != "" || !strings.Contains(s.Note, "it answers GET /health with 500 Internal Server Error") {
		t.Errorf("stats are %+v", s)
	}
	order := func() []forward.Target { return r.tasks["x"].order(f, netip.MustParseAddr("192.0.2.7"), forward.TCP) }
	if got := order(); len(got) != 1 || got[0] != f.To[1] {
		t.Errorf("a client gets %v", got)
	}
	status.Store(http.StatusFound)
	stateBecomes(t, r, 0, health.Up)
	if got := order(); len(got) != 2 || got[0] != f.To[0] {
		t.Errorf("then a client gets %v", got)
	}
	g := *f
	g.Check = forward.Check{}
	apply(t, r, &g)
	status.Store(http.StatusInternalServerError)
	seen := asked.Load()
	stateBecomes(t, r, 0, health.Up)
	if now := asked.Load(); now > seen+1 { // one may have been under way
		t.Errorf("without a check the target was still asked %d times", now-seen)
	}
}

// TestAllDown wants clients carried although every check fails: the check may be wrong, and a refusal is certain.
func TestAllDown(t *testing.T) {
	bothWays(t, func(t *testing.T, r *Relay) {
		one, two, port := serve(t, "tcp", "127.0.0.1:0", say("one")).String(), serve(t, "tcp", "127.0.0.1:0", say("two")).String(), freePort(t)
		f := fwd(t, "x", port, one, two)
		f.Check, _ = forward.ParseCheck("http://app.example/")
		f.Check.Interval = 10 * time.Millisecond
		apply(t, r, f)
		stateBecomes(t, r, 0, health.Down)
		stateBecomes(t, r, 1, health.Down)
		if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "one" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if s := r.Stats()["x"]; !strings.HasPrefix(s.Failing, "2 of 2 targets: "+one+" is down: ") {
			t.Errorf("stats are %+v", s)
		}
	})
}

// TestCheckOfOnlyTarget is for people who want to see in the status that it is down, before a client does.
func TestCheckOfOnlyTarget(t *testing.T) {
	dead := freePort(t)
	f := fwd(t, "x", freePort(t), "127.0.0.1:"+dead)
	f.Check = forward.Check{Kind: forward.CheckConnect, Interval: 10 * time.Millisecond}
	r := startRelay(t)
	apply(t, r, f)
	stateBecomes(t, r, 0, health.Down)
	if s := r.Stats()["x"]; !strings.HasPrefix(s.Failing, "127.0.0.1:"+dead+" is down: connection refused (since ") {
		t.Errorf("stats are %+v", s)
	}
	serve(t, "tcp", "127.0.0.1:"+dead, echo)
	stateBecomes(t, r, 0, health.Up)
	if s := r.Stats()["x"]; s.Failing != "" || s.Note != "" {
		t.Errorf("stats are %+v", s)
	}
}

func TestDrain(t *testing.T) {
	bothWays(t, func(t *testing.T, r *Relay) {
		port := freePort(t)
		f := fwd(t, "x", port, serve(t, "tcp", "127.0.0.1:0", echo).String(), serve(t, "tcp", "127.0.0.1:0", say("other")).String())
		apply(t, r, f)
		old := dial(t, "tcp", "127.0.0.1:"+port)
		ask(t, old, "before")
		one := *f
		one.Drain = f.To[:1]
		apply(t, r, &one)
		if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "other" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		ask(t, old, "during")
		if s := targetStats(r, 0); !s.Draining || s.Open != 1 {
			t.Errorf("the target that is drained is %+v", s)
		}
		all := *f
		all.Drain = f.To
		apply(t, r, &all)
		c, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err == nil { // else the reset was quick
			_, err = readAll(t, c)
			c.Close()
		}
		if err == nil {
			t.Error("a client got in, want a reset")
		}
		refusedBecomes(t, r, "x", 1)
		if s := r.Stats()["x"]; s.Note != errDraining.Error() {
			t.Errorf("stats are %+v", s)
		}
		ask(t, old, "after")
		apply(t, r, f)
		ask(t, dial(t, "tcp", "127.0.0.1:"+port), "again")
		if s := targetStats(r, 0); s.Draining || s.Open != 2 {
			t.Errorf("the target that takes sessions again is %+v", s)
		}
	})
}

// TestApplyKeepsHealth changes something else, and takes a target away and back.
func TestApplyKeepsHealth(t *testing.T) {
	dead, alive, port := freePort(t), serve(t, "tcp", "127.0.0.1:0", echo).String(), freePort(t)
	f := fwd(t, "x", port, "127.0.0.1:"+dead, alive)
	f.Check = forward.Check{Kind: forward.CheckConnect, Interval: time.Hour}
	r := startRelay(t)
	apply(t, r, f)
	stateBecomes(t, r, 0, health.Down)
	stateBecomes(t, r, 1, health.Up)
	before := targetStats(r, 0)
	limited := *f
	limited.MaxConnections = 5
	limited.To = []forward.Target{f.To[1], f.To[0]}
	apply(t, r, &limited)
	if got := targetStats(r, 1); got != before {
		t.Errorf("after a change of something else it is %+v, and was %+v", got, before)
	}
	unchecked := limited
	unchecked.Check = forward.Check{}
	apply(t, r, &unchecked)
	if got := targetStats(r, 1).State; got != "failing" {
		t.Errorf("without a check it is %s", got)
	}
	only := unchecked
	only.To = f.To[1:]
	apply(t, r, &only)
	if got := r.Stats()["x"]; got.Targets != nil || got.Note != "" {
		t.Errorf("with one target the stats are %+v", got)
	}
	apply(t, r, &unchecked)
	if got := targetStats(r, 1).State; got != "unknown" {
		t.Errorf("a target that comes again is %s", got)
	}
}

// TestLocalTargetOfOneFamily has a program on one loopback address alone: what the other one refuses is no failure.
func TestLocalTargetOfOneFamily(t *testing.T) {
	bothWays(t, func(t *testing.T, r *Relay) {
		_, local, _ := net.SplitHostPort(serve(t, "tcp", "[::1]:0", say("six")).String())
		port := freePort(t)
		apply(t, r, fwd(t, "x", port, ":"+local, "127.0.0.1:"+freePort(t)))
		if got, err := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "six" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		if s := r.Stats()["x"]; s.Targets[0].State != "up" || s.Note != "" {
			t.Errorf("stats are %+v", s)
		}
	})
}

// TestFlowsLeaveTargetThatRefuses sends datagrams to a port without a program.
func TestFlowsLeaveTargetThatRefuses(t *testing.T) {
	alive, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer alive.Close()
	port := freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "x", "udp/"+port, "127.0.0.1:"+freePort(t), alive.LocalAddr().String()))
	client := dial(t, "udp", "127.0.0.1:"+port)
	eventually(t, "a datagram to arrive at the other target", func() bool {
		_, _ = io.WriteString(client, "anybody?")
		_ = alive.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
		n, _, err := alive.ReadFrom(make([]byte, 100))
		return err == nil && n == len("anybody?")
	})
	if s := targetStats(r, 0); s.State != "failing" || s.Why != "connection refused" {
		t.Errorf("the target that refuses is %+v", s)
	}
}

func TestNotWell(t *testing.T) {
	bad := []string{"a is down", "b is down", "c is down", "d is down", "e is down"}
	for n, want := range map[int]string{
		1: "1 of 9 targets: a is down", 3: "3 of 9 targets: a is down; b is down; c is down",
		5: "5 of 9 targets: a is down; b is down; c is down; and 2 more",
	} {
		if got := notWell(slices.Clone(bad[:n]), 9); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
