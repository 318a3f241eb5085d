package sshnode

import (
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

func TestListen(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	n := runNode(t, s.spec(), Options{})
	for _, c := range []struct{ network, addr, bound, dial string }{
		{"tcp", "127.0.0.1:0", "127.0.0.1:", "127.0.0.1:"},
		{"tcp", "localhost:0", "127.0.0.1:", "127.0.0.1:"},
		{"tcp", ":0", "[::]:", "127.0.0.1:"},
		{"tcp", "*:0", "[::]:", "127.0.0.2:"},
		{"tcp4", ":0", "0.0.0.0:", "127.0.0.1:"},
		{"tcp", "0.0.0.0:0", "0.0.0.0:", "127.0.0.1:"},
		{"unix", filepath.Join(s.dir, "sock"), filepath.Join(s.dir, "sock"), ""},
	} {
		l, err := n.Listen(t.Context(), c.network, c.addr)
		if err != nil {
			t.Errorf("%s %s: %v", c.network, c.addr, err)
			continue
		}
		bound := (<-l.(*listener).Bound()).String()
		if !strings.HasPrefix(bound, c.bound) || bound != l.Addr().String() || strings.HasSuffix(bound, ":0") {
			t.Errorf("%s %s: bound %s, Addr is %s", c.network, c.addr, bound, l.Addr())
		}
		if c.network == "unix" {
			d, err := net.Dial("unix", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			a, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if a.RemoteAddr().Network() != "unix" {
				t.Errorf("RemoteAddr is %v", a.RemoteAddr())
			}
			_, _ = a.Close(), d.Close()
		} else {
			_, port, _ := net.SplitHostPort(bound)
			acceptsFrom(t, l, c.dial+port)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("the second Close: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
	}
	for _, bad := range [][2]string{{"udp", ":53"}, {"tcp", "nonsense"}, {"tcp", "host:99999"}, {"unix", ""}} {
		if _, err := n.Listen(t.Context(), bad[0], bad[1]); err == nil {
			t.Errorf("Listen %s %s succeeded", bad[0], bad[1])
		}
	}
	l, err := n.Listen(t.Context(), "tcp", "127.0.0.1:4711")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Listen(t.Context(), "tcp", "127.0.0.1:4711"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the second Listen: %v", err)
	}
	_ = l.Close()
}

// TestListenRetries has a port become free that was taken.
func TestListenRetries(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := runNode(t, s.spec(), Options{})
	l, err := n.Listen(t.Context(), "tcp", taken.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	eventually(t, "the listener is refused", func() bool {
		return strings.Contains(l.(node.Stated).State().Why, "refuses to listen")
	})
	_ = taken.Close()
	eventually(t, "the server listens", func() bool { return l.(node.Stated).State().Up })
	acceptsFrom(t, l, taken.Addr().String())
}

func TestMatch(t *testing.T) {
	make := func(host string, port uint32) *forwarding {
		f := &forwarding{l: &listener{network: "tcp", host: host}}
		f.port.Store(port)
		return f
	}
	local, all, other := make("localhost", 80), make("", 8080), make("192.0.2.1", 8080)
	unix := &forwarding{l: &listener{network: "unix", host: "/s"}}
	forwards := []*forwarding{local, all, other, unix}
	for _, c := range []struct {
		at   sshchan.Place
		want *forwarding
	}{
		{sshchan.Place{Host: "localhost", Port: 80}, local},
		{sshchan.Place{Host: "127.0.0.1", Port: 80}, local},
		{sshchan.Place{Host: "192.0.2.1", Port: 8080}, other},
		{sshchan.Place{Host: "0.0.0.0", Port: 8080}, all},
		{sshchan.Place{Host: "localhost", Port: 81}, nil},
		{sshchan.Place{Path: "/s"}, unix},
		{sshchan.Place{Path: "/t"}, nil},
	} {
		if got := match(forwards, sshchan.Arrival{At: c.at}); got != c.want {
			t.Errorf("%+v: %+v", c.at, got)
		}
	}
}

// FuzzArrival has a server say anything of where a connection arrived and who it is from.
func FuzzArrival(f *testing.F) {
	f.Add("localhost", "::1", uint16(80), "")
	f.Add("", "a\x1b[0m\n", uint16(0), "/s")
	f.Fuzz(func(t *testing.T, host, from string, port uint16, path string) {
		a := sshchan.Arrival{At: sshchan.Place{Host: host, Port: port, Path: path}, Origin: from, Port: port}
		if from := origin(a); strings.ContainsAny(from.String(), "\n\x1b") {
			t.Errorf("%+v: %q", a, from)
		}
		match([]*forwarding{{l: &listener{network: "tcp", host: "x"}}, {l: &listener{network: "unix", host: "/s"}}}, a)
	})
}

func FuzzClean(f *testing.F) {
	f.Add("a\x1b[0m\xff")
	f.Fuzz(func(t *testing.T, s string) {
		if c := clean(s); len(c) > longest+len("…") || strings.ContainsAny(c, "\r\n\x1b\x00") {
			t.Errorf("%q", c)
		}
	})
}
