package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The greeting of every echo server: which host answered, and under which address it saw the caller.
const greeting = "hello from %s, you are %s\n"

// Echo serves TCP and UDP at the numeric address ("[::]:9000" for every one, "192.168.1.10:9000"), in this process, until
// the test's cleanup. A TCP connection is greeted and then gets back what it sends, with half-close; a datagram comes back
// behind a greeting.
func (n *Node) Echo(tb TB, addr string) {
	tb.Helper()
	ln, err := n.Listen("tcp", addr)
	if err != nil {
		tb.Fatalf("on %s: echo at tcp/%s: %v", n.name, addr, err)
	}
	pc, err := n.ListenPacket("udp", addr)
	if err != nil {
		_ = ln.Close()
		tb.Fatalf("on %s: echo at udp/%s: %v", n.name, addr, err)
	}
	s := &echo{name: n.name, conns: map[net.Conn]bool{}}
	s.wg.Go(func() { s.streams(ln) })
	s.wg.Go(func() { s.datagrams(pc) })
	tb.Cleanup(func() {
		_ = ln.Close()
		_ = pc.Close()
		s.closeAll()
		s.wg.Wait()
	})
}

// Web serves HTTP at the numeric address until the test's cleanup: every path answers with the greeting.
func (n *Node) Web(tb TB, addr string) {
	tb.Helper()
	ln, err := n.Listen("tcp", addr)
	if err != nil {
		tb.Fatalf("on %s: web at %s: %v", n.name, addr, err)
	}
	srv := &http.Server{ReadHeaderTimeout: commandTime, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, greeting, n.name, plain(r.RemoteAddr))
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(ln) }()
	tb.Cleanup(func() {
		_ = srv.Close()
		<-ended
	})
}

// plain writes an IPv4 client of a dual-stack socket as IPv4.
func plain(addr string) string {
	if ap, err := netip.ParseAddrPort(addr); err == nil {
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()).String()
	}
	return addr
}

// echoRoom is the room for datagrams that an echo server has not got to yet, in bytes: on a busy machine the default of the system is full
// after some hundredths of a second of a flood, and what a test misses then was lost by the server and not by what is tested.
const echoRoom = 8 << 20

type echo struct {
	name string
	wg   sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
}

func (s *echo) streams(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		if s.hold(c) {
			s.wg.Go(func() { s.stream(c) })
		}
	}
}

func (s *echo) stream(c net.Conn) {
	defer s.release(c)
	if _, err := fmt.Fprintf(c, greeting, s.name, plain(c.RemoteAddr().String())); err != nil {
		return
	}
	_, _ = io.Copy(c, c) // a caller that goes away is not this server's trouble
}

// datagrams answers from the address that was asked: a host with several would otherwise answer from the one that the
// routing table prefers, and no caller takes that for an answer.
func (s *echo) datagrams(pc net.PacketConn) {
	udp := pc.(*net.UDPConn)
	if raw, err := udp.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { // fails for an IPv4 socket, which is bound to one address
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, echoRoom)
		})
	}
	buf, oob := make([]byte, 65536), make([]byte, 128)
	for {
		n, k, _, from, err := udp.ReadMsgUDPAddrPort(buf, oob)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // else a port unreachable from an earlier answer
			answer := append(fmt.Appendf(nil, greeting, s.name, plain(from.String())), buf[:n]...)
			_, _, _ = udp.WriteMsgUDPAddrPort(answer, oob[:k], from)
		}
	}
}

func (s *echo) hold(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		_ = c.Close()
		return false
	}
	s.conns[c] = true
	return true
}

func (s *echo) release(c net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	_ = c.Close()
}

func (s *echo) closeAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for c := range s.conns {
		_ = c.Close()
	}
}

// A Reply is what an echo server said to a caller.
type Reply struct {
	Node string         // the host that answered
	You  netip.AddrPort // the caller, as that host saw it
	Me   netip.AddrPort // the caller's own end of the connection; equal to You when nothing rewrote the source
}

// Call asks the echo server at a numeric address who it is, over "tcp" or "udp", and checks that it echoes. For TCP that
// includes half-close: what was sent before it still comes back. It takes three seconds at most, or as long as ctx says.
func (n *Node) Call(ctx context.Context, network, addr string) (Reply, error) {
	return n.CallFrom(ctx, network, "", addr)
}

// CallFrom is Call from one of the host's own addresses.
func (n *Node) CallFrom(ctx context.Context, network, from, addr string) (Reply, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
	}
	c, err := n.call(ctx, network, from, addr)
	if err != nil {
		return Reply{}, err
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	const probe = "is anybody there?\n"
	if _, err := io.WriteString(c, probe); err != nil {
		return Reply{}, err
	}
	var text string
	if t, ok := c.(*net.TCPConn); ok {
		if err := t.CloseWrite(); err != nil {
			return Reply{}, err
		}
		all, err := io.ReadAll(bufio.NewReader(c))
		if err != nil {
			return Reply{}, err
		}
		text = string(all)
	} else {
		buf := make([]byte, 2048)
		k, err := c.Read(buf)
		if err != nil {
			return Reply{}, err
		}
		text = string(buf[:k])
	}
	r, err := parseReply(text, probe)
	if err == nil {
		r.Me, err = netip.ParseAddrPort(plain(c.LocalAddr().String()))
	}
	return r, err
}

// call dials. By UDP it takes a port that no call had before: the kernel draws them, and to conntrack a port that comes again is the
// session that it knows.
func (n *Node) call(ctx context.Context, network, from, addr string) (net.Conn, error) {
	if !strings.HasPrefix(network, "udp") {
		return n.DialFrom(ctx, network, from, addr)
	}
	const first, count = 16384, 16384 // below those that the kernel draws from
	for {
		c, err := n.dialFrom(ctx, network, from, first+int(n.calls.Add(1)%count), addr)
		if !errors.Is(err, unix.EADDRINUSE) || ctx.Err() != nil {
			return c, err
		}
	}
}

func parseReply(text, probe string) (Reply, error) {
	line, back, _ := strings.Cut(text, "\n")
	node, you, ok := strings.Cut(strings.TrimPrefix(line, "hello from "), ", you are ")
	if !ok {
		return Reply{}, fmt.Errorf("this is no echo server: %q", text)
	}
	if back != probe {
		return Reply{}, fmt.Errorf("%s sent %q back, not %q", node, back, probe)
	}
	addr, err := netip.ParseAddrPort(you)
	return Reply{Node: node, You: addr}, err
}
