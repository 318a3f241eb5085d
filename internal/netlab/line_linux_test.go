package netlab

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"
)

const (
	near4, far4   = "192.0.2.1", "192.0.2.2"
	near6, far6   = "2001:db8:2::1", "2001:db8:2::2"
	beyond, other = "198.51.100.1", "192.0.2.9"
)

// newLine is two hosts with a line between them, and the echo of the far one.
func newLine(t *testing.T) (near, far *Node, line *Line) {
	t.Helper()
	l := New(t)
	near, far = l.Node("near"), l.Node("far")
	line = l.Line(
		End{Node: near, Interface: "eth0", Addrs: []string{near4 + "/24", near6 + "/64"}},
		End{Node: far, Interface: "eth0", Addrs: []string{far4 + "/24", far6 + "/64"}})
	far.Echo(t, "[::]:9000")
	return near, far, line
}

// Every packet comes through whole, of either family and size, as it is, late, and one by one.
func TestLine(t *testing.T) {
	near, _, line := newLine(t)
	for _, q := range []Quality{{}, Delayed(10 * time.Millisecond), {Rate: 1e9}, {Loss: 0.01, Seed: 3}} {
		line.Set(q)
		began := time.Now()
		for _, network := range []string{"tcp", "udp"} {
			if q.Loss > 0 && network == "udp" {
				continue
			}
			checkReach(t, near, network, far4, "far")
			checkReach(t, near, network, far6, "far")
		}
		if took := time.Since(began); took < 2*q.Delay {
			t.Errorf("%+v: an answer came after %v", q, took)
		}
		for _, to := range []string{far4 + ":9000", "[" + far6 + "]:9000"} {
			there(t, near, to, 1<<20)
		}
	}
	if to, from := line.Traffic(); to.Carried == 0 || from.Carried == 0 || to.Full+from.Full > 0 || to.Lost == 0 {
		t.Errorf("there %+v, back %+v", to, from)
	}
}

// there sends so many bytes to the echo server and has them back.
func there(t *testing.T, from *Node, addr string, size int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandTime)
	defer cancel()
	c, err := from.Dial(ctx, "tcp", addr)
	if err != nil {
		t.Errorf("%s: %v", addr, err)
		return
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(commandTime))
	sent := bytes.Repeat([]byte("sixteen bytes..\n"), size/16)
	go func() {
		_, _ = c.Write(sent)
		_ = c.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(c)
	_, got, _ = bytes.Cut(got, []byte("\n")) // the greeting
	if err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
		t.Errorf("%s: %d bytes came back of %d, %v", addr, len(got), len(sent), err)
	}
}

// flood sends numbered datagrams, and says which have arrived when the last has, which is sent until it has.
func flood(t *testing.T, near, far *Node, count int) map[uint32]bool {
	t.Helper()
	pc, err := far.ListenPacket("udp", far4+":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	_ = pc.(*net.UDPConn).SetReadBuffer(4 << 20)
	c, err := near.Dial(t.Context(), "udp", far4+":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	b := make([]byte, 100)
	for i := range uint32(count) {
		binary.BigEndian.PutUint32(b, i)
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Microsecond)
	}
	got := map[uint32]bool{}
	last := bytes.Repeat([]byte{255}, 100)
	for began := time.Now(); time.Since(began) < commandTime; {
		_, _ = c.Write(last)
		for {
			_ = pc.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
			if _, _, err := pc.ReadFrom(b); err != nil {
				break
			}
			if b[0] == 255 {
				return got
			}
			got[binary.BigEndian.Uint32(b)] = true
		}
	}
	t.Fatal("nothing arrives")
	return nil
}

// settle waits until nothing else is on a line that loses nothing now: a host may have said something of its own, and a flood its last more often
// than was needed.
func settle(t *testing.T, near, far *Node) {
	t.Helper()
	pc, err := far.ListenPacket("udp", far4+":7001")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	c, err := near.Dial(t.Context(), "udp", far4+":7001")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.Write([]byte("after all of them")); err != nil {
		t.Fatal(err)
	}
	_ = pc.SetReadDeadline(time.Now().Add(commandTime))
	if _, _, err := pc.ReadFrom(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
}

// The same packets are lost of the same ones, and as many as was said.
func TestLineLoss(t *testing.T) {
	near, far, line := newLine(t)
	near.Sysctl(t, "net.ipv6.conf.all.disable_ipv6", "1") // whose own packets come in between at times
	var seen []map[uint32]bool
	for range 2 {
		settle(t, near, far)
		line.Set(Quality{Loss: 0.1, Seed: 1})
		seen = append(seen, flood(t, near, far, 1000))
		line.Set(Quality{})
	}
	if n := len(seen[0]); n < 860 || n > 940 {
		t.Errorf("%d of 1000 have arrived of which a tenth was to be lost", n)
	}
	for i := range uint32(1000) {
		if seen[0][i] != seen[1][i] {
			t.Fatalf("datagram %d arrived once and was lost once", i)
		}
	}
}

// A line that is slow loses what would have to wait too long.
func TestLineRate(t *testing.T) {
	near, far, line := newLine(t)
	line.Set(Quality{Rate: 1e6, Queue: 10 * time.Millisecond}) // 1250 bytes wait
	if got := flood(t, near, far, 200); len(got) > 150 {
		t.Errorf("%d of 200 have arrived", len(got))
	}
	if to, _ := line.Traffic(); to.Full == 0 {
		t.Errorf("%+v", to)
	}
}

func TestLineCut(t *testing.T) {
	near, _, line := newLine(t)
	c, err := near.Dial(t.Context(), "tcp", far4+":9000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(commandTime))
	buf := make([]byte, 4)
	for _, interrupt := range []struct{ begin, end func() }{{line.Cut, line.Mend}, {line.Unplug, line.Plug}} {
		interrupt.begin()
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if reply, err := near.Call(ctx, "udp", far4+":9000"); err == nil {
			t.Errorf("an answer over a line that is cut: %+v", reply)
		}
		cancel()
		_, _ = io.WriteString(c, "held")
		interrupt.end()
		checkReach(t, near, "udp", far4, "far")
	}
	want := "held"
	for text := ""; !strings.HasSuffix(text, want+want); { // behind the greeting
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("a connection did not outlive two interruptions: %v after %q", err, text)
		}
		text += string(buf[:n])
	}
}

func TestReaddress(t *testing.T) {
	near, far, _ := newLine(t)
	near.Route(t, "default", far4)
	near.Route(t, "default", far6)
	far.Address(t, "lo", beyond+"/32")
	for range 2 {
		near.Readdress(t, "eth0", other+"/24", "2001:db8:2::9/64")
		for to, you := range map[string]string{beyond + ":9000": other, "[" + far6 + "]:9000": "2001:db8:2::9"} {
			reply, err := near.Call(t.Context(), "tcp", to)
			if err != nil || reply.You.Addr() != netip.MustParseAddr(you) {
				t.Errorf("%s: %+v, %v", to, reply, err)
			}
		}
	}
	near.Readdress(t, "eth0", "192.0.2.10/24")
	if out := near.Run(t, "ip", "-o", "addr", "show", "dev", "eth0"); strings.Contains(out, other) || strings.Contains(out, "2001:") {
		t.Error(out)
	}
}

func TestOnWire(t *testing.T) {
	frame := func(kind byte, header, size, length int) []byte {
		b := make([]byte, virtioSize+length)
		b[virtioGSOType] = kind
		binary.NativeEndian.PutUint16(b[virtioHeaderSize:], uint16(header))
		binary.NativeEndian.PutUint16(b[virtioGSOSize:], uint16(size))
		return b
	}
	for _, tt := range []struct {
		frame []byte
		want  int
	}{
		{frame(0, 0, 0, 60), 60},
		{frame(1, 66, 1448, 66+1448), 66 + 1448},
		{frame(1, 66, 1448, 66+1449), 66 + 1449 + 66},
		{frame(1, 66, 1448, 66+44*1448), 44 * (66 + 1448)},
		{frame(1, 66, 0, 1000), 1000},
		{frame(1, 66, 1448, 60), 60},
	} {
		if got := onWire(tt.frame); got != tt.want {
			t.Errorf("%d bytes: %d on the wire, want %d", len(tt.frame)-virtioSize, got, tt.want)
		}
	}
}

func BenchmarkLine(b *testing.B) {
	for _, tt := range []struct {
		name string
		q    Quality
	}{{"plain", Quality{}}, {"each", Quality{Loss: 1e-12}}, {"limited", Quality{Rate: 1e9, Queue: time.Second}}, {"late", Delayed(2 * time.Millisecond)}} {
		b.Run(tt.name, func(b *testing.B) {
			l := New(b)
			near, far := l.Node("near"), l.Node("far")
			line := l.Line(End{Node: near, Interface: "eth0", Addrs: []string{near4 + "/24"}}, End{Node: far, Interface: "eth0", Addrs: []string{far4 + "/24"}})
			line.Set(tt.q)
			ln, err := far.Listen("tcp", far4+":7000")
			if err != nil {
				b.Fatal(err)
			}
			defer ln.Close()
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if c, err := ln.Accept(); err == nil {
					_, _ = io.Copy(io.Discard, c)
					_ = c.Close()
				}
			}()
			c, err := near.Dial(b.Context(), "tcp", far4+":7000")
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 1<<20)
			b.SetBytes(int64(len(buf)))
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			_ = c.(*net.TCPConn).CloseWrite()
			<-ended
		})
	}
}
