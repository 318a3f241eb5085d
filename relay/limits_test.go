package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
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

// TestBucket moves slices as copyStream does and looks at how far they got in fake time.
func TestBucket(t *testing.T) {
	for _, rate := range []int64{2000, 125_000, 1_250_000, 125_000_000} {
		synctest.Test(t, func(t *testing.T) {
			var b bucket
			b.setRate(rate)
			var moved atomic.Int64
			ctx, cancel := context.WithCancel(t.Context())
			for range 3 { // sessions that share the rate
				go func() {
					for ctx.Err() == nil {
						n := int64(b.Slice())
						moved.Add(n)
						b.payAndWait(ctx, n)
					}
				}()
			}
			const seconds = 20
			time.Sleep(seconds * time.Second)
			cancel()
			got, want := float64(moved.Load()), float64(rate*seconds)
			if slack := float64(4 * b.Slice()); got < 0.95*want || got > 1.05*want+slack {
				t.Errorf("at %d bytes/s, %.0f bytes passed in %d s; want %.0f", rate, got, seconds, want)
			}
		})
	}
}

func TestBucketWithoutLimit(t *testing.T) {
	var b bucket
	b.payAndWait(t.Context(), 1<<40)
	if b.Slice() != 0 || !b.allow(1<<20) {
		t.Error("the zero bucket limits")
	}
}

func TestLimitedStreamStaysWhole(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	f := fwd(t, "x", port, target)
	f.Bandwidth = 20 << 20
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
