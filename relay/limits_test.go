package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// turnedAway expects that the relay closes c without a byte.
func turnedAway(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || os.IsTimeout(err) {
		t.Errorf("read %d bytes, %v; want to be turned away", n, err)
	}
}

func TestMaxConnections(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	f.MaxConnections = 2
	r := startRelay(t)
	apply(t, r, f)
	addr := "127.0.0.1:" + port
	a, b := dial(t, "tcp", addr), dial(t, "tcp", addr)
	ask(t, a, "a")
	ask(t, b, "b")
	turnedAwayAt(t, "127.0.0.1", addr)
	refusedBecomes(t, r, "x", 1)
	a.Close()
	eventually(t, "the place to be free", func() bool { return r.Stats()["x"].Open == 1 })
	ask(t, dial(t, "tcp", addr), "c")
}

func TestMaxPerSource(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	f.MaxPerSource = 1
	r := startRelay(t)
	apply(t, r, f)
	addr := "127.0.0.1:" + port
	a := dialFrom(t, "127.0.0.2", addr)
	ask(t, a, "a")
	turnedAwayAt(t, "127.0.0.2", addr)
	ask(t, dialFrom(t, "127.0.0.3", addr), "b")
	a.Close()
	eventually(t, "the place to be free", func() bool { return r.Stats()["x"].Open == 1 })
	ask(t, dialFrom(t, "127.0.0.2", addr), "c")
	if s := r.Stats()["x"]; s.Refused != 1 || s.Total != 3 {
		t.Errorf("stats are %+v", s)
	}
}

// TestLimitIsAccurate moves slices as copyStream does, and looks at how far they got in simulated time.
func TestLimitIsAccurate(t *testing.T) {
	for _, c := range []struct {
		rate, perSource    int64 // 0: none
		sources, sessions  int   // of each source
		want, wantOfSource int64 // bytes a second; 0: not looked at
	}{
		{rate: 2000, sources: 3, sessions: 1, want: 2000},
		{rate: 100_000, sources: 1, sessions: 1, want: 100_000},
		{rate: 100_000, sources: 20, sessions: 1, want: 100_000},
		{rate: 5_000_000, sources: 20, sessions: 1, want: 5_000_000},
		{rate: 100_000_000, sources: 20, sessions: 1, want: 100_000_000},
		{perSource: 100_000, sources: 1, sessions: 20, want: 100_000},
		{perSource: 100_000, sources: 5, sessions: 4, want: 500_000, wantOfSource: 100_000},
		{perSource: 100_000_000, sources: 2, sessions: 10, want: 200_000_000, wantOfSource: 100_000_000},
		{rate: 1_000_000, perSource: 100_000, sources: 4, sessions: 5, want: 400_000, wantOfSource: 100_000},
		{rate: 300_000, perSource: 100_000, sources: 6, sessions: 2, want: 300_000, wantOfSource: 50_000},
		{rate: 5_000_000, perSource: 5_000_000, sources: 1, sessions: 20, want: 5_000_000},
	} {
		synctest.Test(t, func(t *testing.T) {
			const seconds = 20
			ctx, cancel := context.WithTimeout(t.Context(), seconds*time.Second)
			defer cancel()
			limits, moved := limitsOf(t, c.rate, c.perSource, c.sources, c.sessions), make([]atomic.Int64, c.sources)
			for i := range limits {
				go func() {
					for n := int64(limits[i].Slice()); ; {
						limits[i].await(ctx, n)
						if ctx.Err() != nil {
							return
						}
						moved[i%c.sources].Add(n)
					}
				}()
			}
			<-ctx.Done()
			synctest.Wait()
			var sum int64
			for i := range moved {
				sum += moved[i].Load()
				if c.wantOfSource > 0 {
					within5(t, moved[i].Load(), c.wantOfSource*seconds, fmt.Sprintf("%+v: source %d", c, i))
				}
			}
			within5(t, sum, c.want*seconds, fmt.Sprintf("%+v", c))
		})
	}
}

// limitsOf is the upload limits of the sessions of a forward, those of the sources in turn.
func limitsOf(t *testing.T, rate, perSource int64, sources, sessions int) []*limit {
	t.Helper()
	f := fwd(t, "x", "80", "192.0.2.1:1")
	f.Bandwidth, f.BandwidthPerSource = rate, perSource
	task := newTask(f)
	task.change(f, nil, nil)
	var limits []*limit
	for i := range sources * sessions {
		s := &stream{}
		s.id, s.client = uint64(i), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i % sources)}), 1)
		if err := task.enter(s, f); err != nil {
			t.Fatal(err)
		}
		limits = append(limits, &s.upload)
	}
	return limits
}

func within5(t *testing.T, got, want int64, what string) {
	t.Helper()
	if got*100 < want*95 || got*100 > want*105 {
		t.Errorf("%s: %d bytes passed; want %d", what, got, want)
	}
}

// Clients whose connections each carry less than a slice share the rate all the same.
func TestShortSessionsAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const rate, n, size = 100_000, 2000, 500
		begun := time.Now()
		limits := limitsOf(t, rate, 0, 1, n)
		var wg sync.WaitGroup
		for _, l := range limits {
			wg.Go(func() { l.await(t.Context(), size) })
		}
		wg.Wait()
		within5(t, int64(time.Since(begun)), int64(n*size*time.Second/rate), "nanoseconds")
	})
}

// What was paid for and did not pass is for others.
func TestLimitGivesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := limitsOf(t, 100_000, 10_000, 1, 2)
		limits[0].Pay(1 << 20)
		limits[0].Pay(-1 << 20)
		if wait := limits[1].Pay(1); wait > 0 {
			t.Errorf("the next waits %s", wait)
		}
	})
}

func TestLimitWithoutRate(t *testing.T) {
	for _, l := range []*limit{{}, limitsOf(t, 0, 0, 1, 1)[0]} {
		l.await(t.Context(), 1<<40)
		if l.Slice() != 0 || !l.allow(1<<20) {
			t.Error("a limit without a rate limits")
		}
	}
}

func TestDatagramsAreLimitedBySource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := limitsOf(t, 1_000_000, 100_000, 2, 1)
		for limits[0].allow(1000) {
		}
		if !limits[1].allow(1000) {
			t.Error("the rate of one source holds another one back")
		}
		passed := 0
		for range 10_000 {
			time.Sleep(time.Millisecond)
			if limits[0].allow(1000) {
				passed++
			}
		}
		within5(t, int64(passed*1000), 10*100_000, "bytes of datagrams")
	})
}

// A source's rate is forgotten with its last session, and follows the forward when that changes.
func TestSourcesAreForgotten(t *testing.T) {
	f := fwd(t, "x", "80", "192.0.2.1:1")
	f.BandwidthPerSource = 100_000
	task := newTask(f)
	task.change(f, nil, nil)
	var sessions []*stream
	for i := range 3 {
		s := &stream{near: &net.TCPConn{}}
		s.id, s.client = uint64(i), netip.MustParseAddrPort("192.0.2.9:1")
		if err := task.enter(s, f); err != nil {
			t.Fatal(err)
		}
		sessions = append(sessions, s)
	}
	without := *f
	without.BandwidthPerSource = 0
	task.change(&without, nil, nil)
	if n := sessions[0].download.Slice(); n != 0 || len(task.perSource) != 0 {
		t.Errorf("without a rate the slice is %d, and %d sources are known", n, len(task.perSource))
	}
	task.change(f, nil, nil)
	if n := sessions[0].download.Slice(); n != 2000 || len(task.perSource) != 1 {
		t.Errorf("with a rate the slice is %d, and %d sources are known", n, len(task.perSource))
	}
	for i, s := range sessions {
		task.leave(s)
		if left := len(task.perSource); (left == 0) != (i == len(sessions)-1) {
			t.Errorf("%d sources are known after %d of %d sessions have gone", left, i+1, len(sessions))
		}
	}
}

func TestLimitedStreamStaysWhole(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	f.Bandwidth, f.BandwidthPerSource = 30<<20, 20<<20
	r := startRelay(t)
	apply(t, r, f)
	sendAndCheck(t, dial(t, "tcp", "127.0.0.1:"+port), 1<<20)
}

func TestBalance(t *testing.T) {
	targets := []string{"192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1", "192.0.2.4:1"}
	f := fwd(t, "x", "80", targets...)
	task := newTask(f)
	client := netip.MustParseAddr("198.51.100.7")
	first := func() string { return task.order(f, client, forward.TCP)[0].String() }

	for range 3 {
		if got := first(); got != targets[0] {
			t.Errorf("failover begins with %s", got)
		}
	}
	f.Balance = forward.BalanceRoundRobin
	for i := range 9 {
		if got := first(); got != targets[i%4] {
			t.Errorf("turn %d goes to %s, want %s", i, got, targets[i%4])
		}
	}
	f.Balance = forward.BalanceLeast
	task.targets[0].open, task.targets[1].open, task.targets[3].open = 2, 1, 1
	if got := first(); got != targets[2] {
		t.Errorf("least goes to %s, want %s", got, targets[2])
	}

	f.Balance = forward.BalanceSource
	fewer := fwd(t, "x", "80", targets[:3]...)
	fewer.Balance = forward.BalanceSource
	share, moved := map[string]int{}, 0
	const clients = 4000
	for i := range clients {
		client = netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		was, is := first(), task.order(fewer, client, forward.TCP)[0].String()
		share[was]++
		if was != targets[3] && was != is {
			moved++
		}
	}
	if moved != 0 {
		t.Errorf("%d clients lost their target because another one went", moved)
	}
	for _, target := range targets {
		if n := share[target]; n < clients/5 || n > clients*3/10 {
			t.Errorf("%s has %d of %d clients", target, n, clients)
		}
	}
}

// turnedAwayAt dials and expects the same; the reset may be quicker than the dial.
func turnedAwayAt(t *testing.T, local, addr string) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(local)}, Timeout: patience}
	c, err := d.Dial("tcp", addr)
	if err == nil {
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		turnedAway(t, c)
	} else if !errors.Is(err, syscall.ECONNRESET) {
		t.Error(err)
	}
}
