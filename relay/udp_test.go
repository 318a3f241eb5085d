package relay

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// serveUDP answers every datagram with prefix and the datagram.
func serveUDP(t *testing.T, addr, prefix string) string {
	t.Helper()
	c, err := net.ListenPacket("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteTo(append([]byte(prefix), buf[:n]...), from)
		}
	})
	t.Cleanup(func() { c.Close(); wg.Wait() })
	return c.LocalAddr().String()
}

// askUDP sends until the answer comes: datagrams may be lost, and a target may be changing. It returns how often it has sent; answers to
// all but one of those may still come.
func askUDP(t *testing.T, c net.Conn, text, want string) (sent int) {
	t.Helper()
	buf := make([]byte, 65536)
	end := time.Now().Add(patience)
	defer func() { _ = c.SetReadDeadline(time.Now().Add(patience)) }() // for whoever reads next
	for time.Now().Before(end) {
		sent++
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		if n, err := c.Read(buf); err == nil && string(buf[:n]) == want {
			return sent
		}
	}
	t.Fatalf("no answer %q", want)
	return sent
}

// onBothPaths runs a test with a relay that uses the engine, where there is one, and with one that does not.
func onBothPaths(t *testing.T, test func(t *testing.T, r *Relay)) {
	t.Helper()
	t.Run("engine", func(t *testing.T) { test(t, startRelay(t)) })
	t.Run("portable", func(t *testing.T) { test(t, startPortable(t)) })
}

func TestUDP(t *testing.T) {
	target := serveUDP(t, "127.0.0.1:0", "")
	name := "localhost" + target[strings.LastIndex(target, ":"):]
	for _, c := range []struct{ name, listen, to, dial string }{
		{"one address", "udp/127.0.0.1:PORT", target, "127.0.0.1:PORT"},
		{"every address, by IPv4", "udp/PORT", target, "127.0.0.1:PORT"},
		{"every address, by another one", "udp/PORT", target, "127.0.0.9:PORT"},
		{"every address, by IPv6", "udp/PORT", target, "[::1]:PORT"},
		{"IPv4 alone", "udp/0.0.0.0:PORT", target, "127.0.0.9:PORT"},
		{"to a name", "udp/127.0.0.1:PORT", name, "127.0.0.1:PORT"},
	} {
		t.Run(c.name, func(t *testing.T) {
			onBothPaths(t, func(t *testing.T, r *Relay) {
				port := freePort(t)
				apply(t, r, fwd(t, "x", strings.ReplaceAll(c.listen, "PORT", port), c.to))
				// A connected socket takes answers only from the address that it sent to.
				conn := dial(t, "udp", strings.ReplaceAll(c.dial, "PORT", port))
				for _, size := range []int{1, 1400, 65507} {
					text := strings.Repeat("x", size)
					askUDP(t, conn, text, text)
				}
				eventually(t, "the counts", func() bool {
					s := r.Stats()["x"]
					return s.Open == 1 && s.Total == 1 && s.BytesIn >= 1+1400+65507 && s.BytesOut == s.BytesIn
				})
				if list := sessionsOf(r); len(list) != 1 || list[0].Network != forward.UDP || list[0].Client != conn.LocalAddr().String() {
					t.Errorf("sessions are %+v", list)
				}
			})
		})
	}
}

func TestManyFlows(t *testing.T) { onBothPaths(t, testManyFlows) }

func testManyFlows(t *testing.T, r *Relay) {
	target := serveUDP(t, "127.0.0.1:0", "")
	port := freePort(t)
	apply(t, r, fwd(t, "x", "udp/"+port, target))
	const flows = 200
	var wg sync.WaitGroup
	for i := range flows {
		conn := dial(t, "udp", "127.0.0.1:"+port)
		wg.Go(func() {
			text := fmt.Sprint("flow ", i)
			for range 5 {
				askUDP(t, conn, text, text)
			}
		})
	}
	wg.Wait()
	if s := r.Stats()["x"]; s.Open != flows || s.Total != flows {
		t.Errorf("stats are %+v; want %d flows", s, flows)
	}
}

func TestFlowsExpire(t *testing.T) { onBothPaths(t, testFlowsExpire) }

func testFlowsExpire(t *testing.T, r *Relay) {
	answering := serveUDP(t, "127.0.0.1:0", "")
	silent, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	a, b := freePort(t), freePort(t)
	apply(t, r, fwd(t, "a", "udp/"+a, answering), fwd(t, "b", "udp/"+b, silent.LocalAddr().String()))
	askUDP(t, dial(t, "udp", "127.0.0.1:"+a), "x", "x")
	_, _ = dial(t, "udp", "127.0.0.1:"+b).Write([]byte("x"))
	open := func(a, b int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d and %d flows", a, b), func() bool {
			s := r.Stats()
			return s["a"].Open == a && s["b"].Open == b
		})
	}
	open(1, 1)
	now := r.now()
	r.expireFlows(now + int64(flowIdleFirst) - int64(patience))
	open(1, 1)
	r.expireFlows(now + int64(flowIdleFirst) + int64(time.Second))
	open(1, 0)
	r.expireFlows(now + int64(flowIdle) + int64(time.Second))
	open(0, 0)
}

func TestUDPIdle(t *testing.T) { onBothPaths(t, testUDPIdle) }

func testUDPIdle(t *testing.T, r *Relay) {
	target := serveUDP(t, "127.0.0.1:0", "")
	port := freePort(t)
	f := fwd(t, "x", "udp/"+port, target)
	f.UDPIdle = time.Hour
	apply(t, r, f)
	askUDP(t, dial(t, "udp", "127.0.0.1:"+port), "x", "x")
	now := r.now()
	r.expireFlows(now + int64(time.Hour) - int64(patience))
	if s := r.Stats()["x"]; s.Open != 1 {
		t.Fatalf("stats are %+v; want the flow", s)
	}
	g := fwd(t, "x", "udp/"+port, target)
	g.UDPIdle = time.Minute // holds for the flow that there is, too
	apply(t, r, g)
	r.expireFlows(now + int64(time.Minute) + int64(patience))
	eventually(t, "the flow to end", func() bool { return r.Stats()["x"].Open == 0 })
}

func TestPortUnreachableEndsAFlow(t *testing.T) { onBothPaths(t, testPortUnreachableEndsAFlow) }

func testPortUnreachableEndsAFlow(t *testing.T, r *Relay) {
	port, dead := freePort(t), freePort(t)
	apply(t, r, fwd(t, "x", "udp/"+port, "127.0.0.1:"+dead))
	conn := dial(t, "udp", "127.0.0.1:"+port)
	_, _ = conn.Write([]byte("x"))
	eventually(t, "the flow to end", func() bool {
		s := r.Stats()["x"]
		return s.Refused == 1 && s.Open == 0 && s.Note == "target 127.0.0.1:"+dead+": connection refused"
	})
	serveUDP(t, "127.0.0.1:"+dead, "")
	askUDP(t, conn, "y", "y")
}

func TestFlowsMoveAtOnce(t *testing.T) { onBothPaths(t, testFlowsMoveAtOnce) }

func testFlowsMoveAtOnce(t *testing.T, r *Relay) {
	one, two := serveUDP(t, "127.0.0.1:0", "1"), serveUDP(t, "127.0.0.1:0", "2")
	port := freePort(t)
	apply(t, r, fwd(t, "x", "udp/"+port, one))
	conn := dial(t, "udp", "127.0.0.1:"+port)
	askUDP(t, conn, "x", "1x")
	apply(t, r, fwd(t, "x", "udp/"+port, two))
	askUDP(t, conn, "x", "2x")

	// A change that has nothing to do with the way leaves the flow alone.
	total := r.Stats()["x"].Total
	f := fwd(t, "x", "udp/"+port, two)
	f.MaxConnections = 10
	apply(t, r, f)
	askUDP(t, conn, "x", "2x")
	if s := r.Stats()["x"]; s.Total != total {
		t.Errorf("the flow was replaced: %d in all, there were %d", s.Total, total)
	}

	// A more specific forward takes over the client's flow as well.
	g := fwd(t, "y", "udp/"+port, one)
	g.From = prefixes("127.0.0.1/32")
	apply(t, r, f, g)
	askUDP(t, conn, "x", "1x")
}

func TestFlowLimit(t *testing.T) { onBothPaths(t, testFlowLimit) }

func testFlowLimit(t *testing.T, r *Relay) {
	target := serveUDP(t, "127.0.0.1:0", "")
	port := freePort(t)
	f := fwd(t, "x", "udp/"+port, target)
	f.MaxConnections = 1
	apply(t, r, f)
	askUDP(t, dial(t, "udp", "127.0.0.1:"+port), "x", "x")
	_, _ = dial(t, "udp", "127.0.0.1:"+port).Write([]byte("x"))
	refusedBecomes(t, r, "x", 1)
}

// TestPacketsAllocateNothing holds the way of a datagram of a known flow to no allocation, both directions together.
func TestPacketsAllocateNothing(t *testing.T) { onBothPaths(t, testPacketsAllocateNothing) }

func testPacketsAllocateNothing(t *testing.T, r *Relay) {
	if runtime.GOOS != "linux" {
		t.Skip("measured with the Linux reader")
	}
	target := serveUDPQuietly(t)
	port := freePort(t)
	apply(t, r, fwd(t, "x", "udp/"+port, target))
	conn := dial(t, "udp", "127.0.0.1:"+port)
	data, buf := bytes.Repeat([]byte("x"), 200), make([]byte, 2048)
	once := func() {
		_, _ = conn.Write(data)
		_, _ = conn.Read(buf)
	}
	once()
	if n := testing.AllocsPerRun(2000, once); n >= 1 {
		t.Errorf("%v allocations for a datagram and its answer", n)
	}
}

// serveUDPQuietly is an echo that does not itself allocate.
func serveUDPQuietly(t *testing.T) string {
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	go func() {
		buf := make([]byte, 2048)
		for {
			n, from, err := c.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return c.LocalAddr().String()
}
