package relay

import (
	"encoding/binary"
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/internal/processors"
)

// TestFlowsHoldLittle opens as many flows as there are descriptors for, up to 20,000: none holds a goroutine, nor more than a
// kilobyte beside its place in the table of descriptors that each loop has, which grow by doubling.
func TestFlowsHoldLittle(t *testing.T) {
	target := serveUDPQuietly(t)
	port := freePort(t)
	r := startRelay(t)
	flows := min(20000, int(descriptorLimit())-openFiles(t)-spareDescriptors-100)
	if testing.Short() {
		flows = 1000
	}
	f := fwd(t, "x", "udp/127.0.0.1:"+port, target)
	f.MaxConnections = flows
	apply(t, r, f)
	to, err := net.ResolveUDPAddr("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	const first = 200 // with whom comes what there is once, in each loop, however many flows
	for i := range first {
		askFrom(t, to, i)
	}
	goroutines, heap := runtime.NumGoroutine(), heapInUse()
	for i := first; i < flows; i++ {
		askFrom(t, to, i)
	}
	if n := r.Stats()["x"].Open; n != flows {
		t.Fatalf("%d flows are open, want %d", n, flows)
	}
	if n := runtime.NumGoroutine(); n > goroutines+2 {
		t.Errorf("%d goroutines for %d flows; there were %d before", n, flows, goroutines)
	}
	each := (heapInUse() - heap) / int64(flows-first)
	t.Logf("%d flows, %d bytes each", flows, each)
	const inTable = 24 * 2 // bytes, and what doubling leaves empty
	if most := int64(1024 + inTable*processors.Count()); each > most {
		t.Errorf("a flow holds %d bytes, more than %d", each, most)
	}
}

// askFrom sends a datagram from a loopback address of its own and waits for the answer.
func askFrom(t *testing.T, to *net.UDPAddr, n int) {
	t.Helper()
	from := &net.UDPAddr{IP: net.IPv4(127, 1, byte(n>>8), byte(n))}
	c, err := net.DialUDP("udp4", from, to)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	askUDP(t, c, "x", "x")
}

// heapInUse is what is held, the least of several looks: pools, finalizers and what a preempted goroutine seems to hold keep
// some of what is free through one collection and another.
func heapInUse() int64 {
	least := int64(math.MaxInt64)
	for range 5 {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		least = min(least, int64(m.HeapAlloc))
		time.Sleep(10 * time.Millisecond)
	}
	return least
}

// TestECN holds the relay to passing on the ECN bits of each datagram, and nothing else of the traffic class (RFC 3168).
func TestECN(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		for _, listen := range []string{"udp/PORT", "udp/[::1]:PORT", "udp/127.0.0.1:PORT"} {
			if strings.Contains(listen, ":") && !strings.Contains(listen, host) {
				continue
			}
			t.Run(host+" at "+listen, func(t *testing.T) {
				target, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(host), 0)))
				if err != nil {
					t.Fatal(err)
				}
				defer target.Close()
				port := freePort(t)
				r := startRelay(t)
				apply(t, r, fwd(t, "x", strings.ReplaceAll(listen, "PORT", port), target.LocalAddr().String()))
				client := dial(t, "udp", net.JoinHostPort(host, port)).(*net.UDPConn)
				const dscp = 0x2e << 2
				wantClass(t, client)
				wantClass(t, target)
				for _, ecn := range []int{1, 2, 3, 0} {
					setClass(t, client, host, dscp|ecn)
					setClass(t, target, host, dscp|(3-ecn))
					_, _ = client.Write([]byte("x"))
					class, from := readClass(t, target)
					if class != ecn {
						t.Errorf("sent with ECN %d, the class is %#x", ecn, class)
					}
					_, _ = target.WriteToUDPAddrPort([]byte("x"), from)
					if class, _ := readClass(t, client); class != 3-ecn {
						t.Errorf("answered with ECN %d, the class is %#x", 3-ecn, class)
					}
				}
			})
		}
	}
}

func wantClass(t *testing.T, c *net.UDPConn) {
	onSocket(c, func(fd int) {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_RECVTOS, 1)
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS, 1) // refused on a socket of IPv4
	})
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
}

func setClass(t *testing.T, c *net.UDPConn, host string, class int) {
	t.Helper()
	var err error
	onSocket(c, func(fd int) {
		if strings.Contains(host, ":") {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_TCLASS, class)
		} else {
			err = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TOS, class)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}

// readClass reads a datagram and returns its traffic class.
func readClass(t *testing.T, c *net.UDPConn) (int, netip.AddrPort) {
	t.Helper()
	buf, oob := make([]byte, 16), make([]byte, 128)
	_, n, _, from, err := c.ReadMsgUDPAddrPort(buf, oob)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range messages {
		switch {
		case m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_TOS:
			return int(m.Data[0]), from
		case m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_TCLASS:
			return int(binary.NativeEndian.Uint32(m.Data)), from
		}
	}
	t.Fatal("the kernel says nothing of the class")
	return 0, from
}

// TestBursts sends bursts that become messages of several datagrams (UDP_SEGMENT): all arrive as they were sent, in order.
func TestBursts(t *testing.T) {
	onBothPaths(t, func(t *testing.T, r *Relay) {
		target := serveUDPQuietly(t)
		port := freePort(t)
		apply(t, r, fwd(t, "x", "udp/127.0.0.1:"+port, target))
		var conns []net.Conn
		for range 3 {
			c := dial(t, "udp", "127.0.0.1:"+port)
			askUDP(t, c, "begin", "begin")
			conns = append(conns, c)
		}
		for round := range 20 {
			sizes := []int{1200, 1200, 1200, 300, 1200, 40, 40, 40, 1300, 0, 7, 1200, 1200}
			for i, size := range sizes {
				for k, c := range conns {
					_, _ = c.Write(burstText(round, i, k, size))
				}
			}
			for k, c := range conns {
				buf := make([]byte, 2048)
				for i, size := range sizes {
					n, err := c.Read(buf)
					for err == nil && string(buf[:n]) == "begin" { // sent again, when the first answer was late
						n, err = c.Read(buf)
					}
					if want := burstText(round, i, k, size); err != nil || string(buf[:n]) != string(want) {
						t.Fatalf("round %d, flow %d: datagram %d has %d bytes, %v; want %d", round, k, i, n, err, len(want))
					}
				}
			}
		}
	})
}

func burstText(round, i, k, size int) []byte {
	text := fmt.Sprintf("%d.%d.%d.", round, i, k)
	return []byte(strings.Repeat(text, size/len(text)+1)[:size])
}

// TestHandoverOfFlows lets relays follow each other while a client of UDP talks on.
func TestHandoverOfFlows(t *testing.T) {
	port := freePort(t)
	f := fwd(t, "x", "udp/"+port, serveUDP(t, "127.0.0.1:0", ""))
	l := newLife(t, nil, f)
	c := dial(t, "udp", "127.0.0.1:"+port)
	sent := askUDP(t, c, "before", "before") * len("before")
	target := sessionsOf(l.Relay)[0].Target
	for range 10 {
		l = newLife(t, l.leave(t), f)
		sent += askUDP(t, c, "after", "after") * len("after")
	}
	eventually(t, "all that was sent to be counted", func() bool {
		list := sessionsOf(l.Relay)
		return len(list) == 1 && list[0].BytesIn == uint64(sent)
	})
	if list := sessionsOf(l.Relay); list[0].Target != target {
		t.Errorf("sessions %+v, there was one to %s", list, target)
	}
	if s := l.Stats()["x"]; s.Total != 0 || s.Open != 1 {
		t.Errorf("the last life counts %+v", s)
	}
	l.end()
	if err := <-l.done; err != nil {
		t.Error(err)
	}
}
