// Package nodetest is the suite that every kind of node passes. It is imported by tests only.
package nodetest

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/node"
)

// patience bounds every wait, so that a node that hangs fails instead of hanging the suite.
const patience = 10 * time.Second

// Run runs the suite. open returns a node that is ready; it registers its own cleanup. The node must be able to listen on
// and dial its own 127.0.0.1, and its unix sockets must be files here, if it has any.
func Run(t *testing.T, caps node.Caps, open func(*testing.T) node.Node) {
	t.Run("stream", func(t *testing.T) { testHalfClose(t, open(t), "tcp", "127.0.0.1:0") })
	t.Run("cancel", func(t *testing.T) { testCancel(t, open(t)) })
	t.Run("busy port", func(t *testing.T) { testBusy(t, open(t)) })
	t.Run("nobody listens", func(t *testing.T) { testRefused(t, open(t)) })
	t.Run("caps", func(t *testing.T) { testCaps(t, caps, open(t)) })
	t.Run("introducer", func(t *testing.T) {
		if n, ok := open(t).(introducer); ok {
			testIntroducer(t, n)
		}
	})
	if caps.Unix {
		t.Run("unix", func(t *testing.T) {
			testHalfClose(t, open(t), "unix", filepath.Join(t.TempDir(), "s"))
		})
	}
	if caps.Packets {
		t.Run("packets", func(t *testing.T) { testPackets(t, open(t).(node.PacketNode)) })
	}
}

// listen opens a listener that listens. That of a node that comes and goes may take a moment, and fails by saying why not.
func listen(ctx context.Context, n node.Node, network, addr string) (net.Listener, error) {
	l, err := n.Listen(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	if err := up(l); err != nil {
		return nil, err
	}
	return l, nil
}

// up waits until l listens, and closes it if it does not.
func up(l io.Closer) error {
	stated, ok := l.(node.Stated)
	if !ok {
		return nil
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		s := stated.State()
		switch {
		case s.Up:
			return nil
		case time.Now().After(deadline), strings.Contains(s.Why, "next try in"): // it was refused
			_ = l.Close()
			return errors.New(s.Why)
		}
	}
}

func testCaps(t *testing.T, caps node.Caps, n node.Node) {
	if _, ok := n.(node.PacketNode); ok != caps.Packets {
		t.Errorf("Caps.Packets is %v, but being a PacketNode is %v", caps.Packets, ok)
	}
	if _, ok := n.(node.SourceNode); ok != caps.Sources {
		t.Errorf("Caps.Sources is %v, but being a SourceNode is %v", caps.Sources, ok)
	}
	b, ok := n.(node.Binder)
	if caps.Interfaces && !ok {
		t.Error("Caps.Interfaces is true, but the node is no Binder")
	}
	if ok {
		if _, packets := b.Bind(node.Binding{}).(node.PacketNode); packets != caps.Packets {
			t.Error("Bind changed whether the node is a PacketNode")
		}
	}
}

type introducer interface {
	node.Node
	node.Introducer
}

// testIntroducer dials for clients of both families, and for one without an address.
func testIntroducer(t *testing.T, n introducer) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := listen(ctx, n, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, client := range []string{"", "192.0.2.1:1234", "[2001:db8::1]:1234"} {
		var addr netip.AddrPort
		if client != "" {
			addr = netip.MustParseAddrPort(client)
		}
		d, err := n.DialFor(ctx, addr, "tcp", l.Addr().String())
		if err != nil {
			t.Errorf("for %q: %v", client, err)
			continue
		}
		a, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		oneWay(t, d, a)
		_ = a.Close()
		_ = d.Close()
	}
}

// testHalfClose ends each direction of a connection on its own, the dialling side first and then the accepting one first.
func testHalfClose(t *testing.T, n node.Node, network, addr string) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	l, err := listen(ctx, n, network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, dialerFirst := range []bool{true, false} {
		accepted := make(chan net.Conn, 1)
		go func() {
			c, err := l.Accept()
			if err != nil {
				t.Error(err)
			}
			accepted <- c
		}()
		d, err := n.Dial(ctx, network, l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		a := <-accepted
		if a == nil {
			return
		}
		first, second := a, d
		if dialerFirst {
			first, second = d, a
		}
		oneWay(t, first, second)
		oneWay(t, second, first)
		_ = a.Close()
		_ = d.Close()
	}
}

// oneWay sends from one end, ends that direction, and expects exactly that at the other.
func oneWay(t *testing.T, from, to net.Conn) {
	t.Helper()
	want := bytes.Repeat([]byte("fairlead"), 4096)
	go func() {
		if _, err := from.Write(want); err != nil {
			t.Error(err)
		}
		half, ok := from.(interface{ CloseWrite() error })
		if !ok {
			t.Errorf("%T has no CloseWrite", from)
			_ = from.Close()
			return
		}
		if err := half.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	_ = to.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(to)
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("read %d bytes, %v; want the %d sent and EOF", len(got), err, len(want))
	}
}

func testCancel(t *testing.T, n node.Node) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if c, err := n.Dial(ctx, "tcp", "127.0.0.1:9"); err == nil {
		_ = c.Close()
		t.Error("Dial with a cancelled ctx succeeded")
	} else if !errors.Is(err, context.Canceled) && ctx.Err() == nil {
		t.Error(err)
	}
}

func testBusy(t *testing.T, n node.Node) {
	l, err := listen(t.Context(), n, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if second, err := listen(t.Context(), n, "tcp", l.Addr().String()); err == nil {
		_ = second.Close()
		t.Errorf("listening twice on %s succeeded", l.Addr())
	}
	addr := l.Addr().String()
	_ = l.Close()
	again, err := listen(t.Context(), n, "tcp", addr)
	if err != nil {
		t.Fatalf("the port is not free after Close: %v", err)
	}
	_ = again.Close()
}

func testRefused(t *testing.T, n node.Node) {
	l, err := listen(t.Context(), n, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if c, err := n.Dial(ctx, "tcp", addr); err == nil {
		_ = c.Close()
		t.Errorf("dialling %s, where nobody listens, succeeded", addr)
	}
}

func testPackets(t *testing.T, n node.PacketNode) {
	l, err := n.ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err == nil {
		err = up(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d, err := n.DialPacket(t.Context(), "udp", l.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	deadline := time.Now().Add(patience)
	_, _ = l.SetReadDeadline(deadline), d.SetReadDeadline(deadline)
	buf := make([]byte, 65536)
	for _, size := range []int{0, 1, 1400, 65507} { // none, one, a common packet, the most that UDP over IPv4 carries
		want := bytes.Repeat([]byte{byte(size)}, size)
		if _, err := d.Write(want); err != nil {
			t.Fatal(err)
		}
		got, from, err := l.ReadFrom(buf)
		if err != nil || got != size {
			t.Fatalf("read %d bytes, %v; want %d", got, err, size)
		}
		if _, err := l.WriteTo(buf[:got], from); err != nil {
			t.Fatal(err)
		}
		if got, err = d.Read(buf); err != nil || !bytes.Equal(buf[:got], want) {
			t.Fatalf("the answer has %d bytes, %v; want the %d sent", got, err, size)
		}
	}
}
