package engine

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestOutboxJoins holds an outbox to what the kernel allows of a message that it cuts into datagrams (udp(7), UDP_SEGMENT).
func TestOutboxJoins(t *testing.T) {
	if !canSegment() {
		t.Skip("the kernel has no UDP_SEGMENT")
	}
	for _, c := range []struct {
		name  string
		sizes []int
		want  []int // datagrams of each message
	}{
		{"one size", []int{100, 100, 100}, []int{3}},
		{"a shorter one ends it", []int{100, 100, 50, 50, 50}, []int{3, 2}},
		{"a longer one begins another", []int{100, 200, 200}, []int{1, 2}},
		{"empty ones are alone", []int{100, 0, 0, 100}, []int{1, 1, 1, 1}},
		{"too many bytes", []int{30000, 30000, 30000}, []int{2, 1}},
		{"the largest", []int{65507, 65507}, []int{1, 1}},
		{"too many datagrams", slicesOf(1, maxSegments+1), []int{maxSegments, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o, socket, w := &outbox{}, &packetSocket{}, newWay()
			for _, size := range c.sizes {
				if !o.add(nil, socket, w, &Packet{Data: make([]byte, size)}) {
					t.Fatal("the outbox is full")
				}
			}
			var got []int
			for _, m := range o.notes[:o.n] {
				got = append(got, m.count)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("messages of %v datagrams, want %v", got, c.want)
			}
		})
	}
}

func slicesOf(size, n int) []int {
	list := make([]int, n)
	for i := range list {
		list[i] = size
	}
	return list
}

func newWay() *Way { return &Way{Sent: new(atomic.Uint64), Whole: new(atomic.Uint32)} }

func FuzzParseControl(f *testing.F) {
	var c control
	used := c.addLocal(0, netip.MustParseAddr("2001:db8::1"), true)
	used = c.addECN(used, 3, false)
	used = c.addSegment(used, 1400)
	f.Add(bytes.Clone(c.bytes()[:used]))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, in []byte) {
		var c control
		n := copy(c.bytes(), in)
		var p Packet
		parseControl(c.bytes()[:n], &p)
		if p.ECN > ecnBits || p.Segment < 0 {
			t.Errorf("%x is %+v", in, p)
		}
	})
}

// TestDatagramsLargerThanThePath sends what the kernel cannot cut, because each datagram is larger than the interface takes
// and needs fragments. It runs in a network namespace of its own, with a small MTU.
func TestDatagramsLargerThanThePath(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("a network namespace needs root")
	}
	runtime.LockOSThread() // and never unlocked: the thread ends with the test
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("a network namespace needs root: ", err)
	}
	if out, err := exec.Command("ip", "link", "set", "lo", "mtu", "1400", "up").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	w := newWay()
	w.Prefix = []byte("prefix")
	data := []byte(strings.Repeat("0123456789", 450)) // two datagrams and a half
	p := &Packet{Data: data, Segment: 1800}
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := raw.Control(func(fd uintptr) {
			s := &packetSocket{fd: int32(fd)}
			if err := writeNow(nil, s, p, w); err != nil {
				t.Error(err)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 4096)
		p.Each(func(want []byte) {
			n, err := server.Read(buf)
			if err != nil || string(buf[:n]) != "prefix"+string(want) {
				t.Fatalf("got %d bytes, %v; want %d", n, err, len(want))
			}
		})
	}
	if w.Whole.Load() != 1806 {
		t.Errorf("learnt that datagrams of %d bytes go alone, want 1806", w.Whole.Load())
	}
	if w.Sent.Load() != uint64(2*len(data)) {
		t.Errorf("%d bytes are counted, want %d", w.Sent.Load(), 2*len(data))
	}
}

// TestAddress holds what is read from the kernel's addresses against package net.
func TestAddress(t *testing.T) {
	for _, text := range []string{"192.0.2.1:53", "[2001:db8::1]:53", "[::ffff:192.0.2.1]:53"} {
		want := netip.MustParseAddrPort(text)
		var a Address
		if want.Addr().Is4() {
			a.size = unix.SizeofSockaddrInet4
			binary.NativeEndian.PutUint16(a.raw[:], unix.AF_INET)
			ip := want.Addr().As4()
			copy(a.raw[4:], ip[:])
		} else {
			a.size = unix.SizeofSockaddrInet6
			binary.NativeEndian.PutUint16(a.raw[:], unix.AF_INET6)
			ip := want.Addr().As16()
			copy(a.raw[8:], ip[:])
		}
		binary.BigEndian.PutUint16(a.raw[2:], want.Port())
		if got := a.AddrPort(); got != netip.AddrPortFrom(want.Addr().Unmap(), want.Port()) {
			t.Errorf("%s is read as %v", text, got)
		}
		if got := a.is6(); got != (want.Addr().Is6() && !want.Addr().Is4In6()) {
			t.Errorf("%s goes by IPv6: %v", text, got)
		}
	}
}
