package link

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// relayFor is a SOCKS proxy that passes datagrams on, and says that it does so at "every address", as many do. end ends what it does for all.
func relayFor(t *testing.T, silent bool) (addr string, end func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wait.Go(func() {
				defer c.Close()
				defer context.AfterFunc(ctx, func() { c.Close() })()
				associateFor(c, silent)
			})
		}
	})
	t.Cleanup(func() {
		cancel()
		l.Close()
		wait.Wait()
	})
	return l.Addr().String(), cancel
}

func associateFor(c net.Conn, silent bool) {
	r := bufio.NewReader(c)
	ask := make([]byte, 3+3+7) // the offer of no login, and a request with an IPv4 address
	if _, err := io.ReadFull(r, ask[:3]); err != nil {
		return
	}
	c.Write([]byte{5, 0})
	if _, err := io.ReadFull(r, ask[3:]); err != nil || ask[4] != socksAssociate {
		return
	}
	near, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer near.Close()
	far, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer far.Close()
	port := near.LocalAddr().(*net.UDPAddr).Port
	c.Write([]byte{5, 0, 0, socksIPv4, 0, 0, 0, 0, byte(port >> 8), byte(port)})
	var client net.Addr
	var mu sync.Mutex
	var wait sync.WaitGroup
	wait.Go(func() {
		b := make([]byte, socksMost)
		for {
			n, from, err := near.ReadFrom(b)
			if err != nil {
				return
			}
			mu.Lock()
			client = from
			mu.Unlock()
			payload, ok := socksPayload(b[:n])
			to, err := readSocksAddr(bytes.NewReader(b[3:n]))
			if ok && err == nil && !silent {
				far.WriteTo(payload, net.UDPAddrFromAddrPort(to))
			}
		}
	})
	wait.Go(func() {
		b := make([]byte, socksMost)
		for {
			n, from, err := far.ReadFrom(b)
			if err != nil {
				return
			}
			head, _ := appendSocksAddr([]byte{0, 0, 0}, from.String())
			mu.Lock()
			near.WriteTo([]byte("noise"), client)
			near.WriteTo(append(head, b[:n]...), client)
			mu.Unlock()
		}
	})
	io.Copy(io.Discard, r)
	near.Close()
	far.Close()
	wait.Wait()
}

// TestQUICThroughSOCKS: datagrams go by way of a proxy, and the link ends with what the proxy does for it.
func TestQUICThroughSOCKS(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	addr, end := relayFor(t, false)
	d := dialer(t, b, func(o *DialOptions) { o.Proxy, o.Transports = "socks5://"+addr, []string{QUIC} })
	agent, err := d.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	hubEnd, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer hubEnd.Close()
	if at := agent.Remote(); at.Addr() != netip.MustParseAddr("127.0.0.1") || at.String() == b.addr {
		t.Errorf("packets come from %s", at)
	}
	a, h := lanes(t, agent, hubEnd)
	say(t, a, "are you there?")
	hear(t, h, "are you there?")
	say(t, h, "yes")
	hear(t, a, "yes")
	end()
	select {
	case <-agent.Done():
	case <-time.After(30 * time.Second):
		t.Error("the link outlives the proxy")
	}
}

// TestProxyThatDropsUDP: a proxy that promises and does not keep it costs no more than the time of a try.
func TestProxyThatDropsUDP(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	addr, _ := relayFor(t, true)
	d := dialer(t, b, func(o *DialOptions) { o.Proxy, o.Transports = "socks5://"+addr, []string{QUIC} })
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if l, err := d.Dial(ctx); err == nil {
		l.Close()
		t.Error("there is a link")
	}
}
