package igd

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

const (
	gateway4 = "192.168.1.1"
	gateway6 = "2001:db8:1::1"
	httpPort = 49152
)

// testPlace is the LAN of the tests that have no sockets.
func testPlace() portmap.Place {
	return portmap.Place{Interface: net.Interface{Index: 7, Name: "flnone0"}, Addrs: []netip.Prefix{
		netip.MustParsePrefix(gateway4 + "/24"), netip.MustParsePrefix(gateway6 + "/64"), netip.MustParsePrefix("fe80::1/64"),
	}}
}

func testOptions(t testing.TB, desk *fakeDesk, igd int) Options {
	return Options{
		Desk: desk, Spec: portmap.Spec{IGD: igd}, ID: "test", Version: "9",
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})),
		Link: func() Link {
			return Link{Up: 1e8, Down: 1e9, BytesOut: 1, BytesIn: 1<<32 + 2, PacketsOut: 3, PacketsIn: 4}
		},
	}
}

// A lab is a server whose LAN is in memory.
type lab struct {
	t      testing.TB
	server *Server
	site   *site
	doors  map[netip.Addr]*memory
}

// A memory is a listener whose connections are pipes.
type memory struct {
	addr  netip.AddrPort
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.conns:
		return c, nil
	case <-m.done:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.done) })
	return nil
}

func (m *memory) Addr() net.Addr { return net.TCPAddrFromAddrPort(m.addr) }

type pipeEnd struct {
	net.Conn
	local, remote net.Addr
}

func (p pipeEnd) LocalAddr() net.Addr  { return p.local }
func (p pipeEnd) RemoteAddr() net.Addr { return p.remote }

func newLab(t testing.TB, o Options) *lab {
	o.Places = func() []portmap.Place { return nil }
	s := New(o)
	place := testPlace()
	l := &lab{t, s, &site{Server: s, place: place, doors: map[netip.Addr]uint16{}, boot: 1}, map[netip.Addr]*memory{}}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	for _, own := range place.Addrs {
		at := netip.AddrPortFrom(own.Addr(), httpPort)
		m := &memory{addr: at, conns: make(chan net.Conn), done: make(chan struct{})}
		l.doors[own.Addr()], l.site.doors[own.Addr()] = m, httpPort
		d := &door{s, place, at, s.deviceFor(own.Addr())}
		wg.Go(func() {
			if err := d.serve(ctx, m); err != nil {
				t.Errorf("HTTP at %v: %v", at, err)
			}
		})
	}
	t.Cleanup(func() { cancel(); wg.Wait() })
	return l
}

// connect opens a connection from a client to an address of the gateway.
func (l *lab) connect(client, gateway string) net.Conn {
	l.t.Helper()
	m := l.doors[netip.MustParseAddr(gateway)]
	theirs, ours := net.Pipe()
	from := net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(client), 50000))
	select {
	case m.conns <- pipeEnd{ours, m.Addr(), from}:
	case <-time.After(10 * time.Second):
		l.t.Fatal("nobody accepts")
	}
	return pipeEnd{theirs, from, m.Addr()}
}

// raw sends the bytes of one request by a connection of its own, and returns those of the answer; "" when it is closed without one.
func (l *lab) raw(client, gateway, request string) string {
	l.t.Helper()
	c := l.connect(client, gateway)
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	go func() { _, _ = io.WriteString(c, request) }()
	method, _, _ := strings.Cut(request, " ")
	var seen bytes.Buffer
	answer, err := http.ReadResponse(bufio.NewReader(io.TeeReader(c, &seen)), &http.Request{Method: method})
	if err != nil {
		return seen.String()
	}
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		l.t.Fatal(err)
	}
	return seen.String()
}

// do sends a request and returns the status and the body of the answer.
func (l *lab) do(client, gateway, method, path, body string, fields ...string) (int, string) {
	l.t.Helper()
	request := method + " " + path + " HTTP/1.1\r\nHost: " + netip.AddrPortFrom(netip.MustParseAddr(gateway), httpPort).String() + "\r\n" +
		"Content-Length: " + decimal(len(body)) + "\r\n"
	for _, f := range fields {
		request += f + "\r\n"
	}
	text := l.raw(client, gateway, request+"\r\n"+body)
	if text == "" {
		return 0, ""
	}
	r, err := http.ReadResponse(bufio.NewReader(strings.NewReader(text)), &http.Request{Method: method})
	if err != nil {
		l.t.Fatal(err)
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return r.StatusCode, string(b)
}
