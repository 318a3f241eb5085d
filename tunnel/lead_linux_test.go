package tunnel_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// connecting is a socket whose connect to addr is under way.
func connecting(t *testing.T, addr netip.AddrPort) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	err = unix.Connect(fd, &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()})
	if err != nil && !errors.Is(err, unix.EINPROGRESS) {
		t.Fatal(err)
	}
	return fd
}

func addrOf(l net.Listener) netip.AddrPort { return l.Addr().(*net.TCPAddr).AddrPort() }

// nobody is an address at which nobody listens.
func nobody(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return addrOf(l)
}

// TestSocketsAreLedAndMet: a client's socket is led, the target's is met, at the second attempt.
func TestSocketsAreLedAndMet(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	target, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	said := make(chan string, 10)
	d.agent.opened = func(a *tunnel.Arrival) {
		attempts := []netip.AddrPort{addrOf(target)}
		a.Meet(connecting(t, nobody(t)), node.MeetOptions{
			BearOptions: node.BearOptions{Ended: func(node.Borne) { said <- "met ended" }},
			Timeout:     5 * time.Second,
			Connected:   func() { said <- "met" },
			Failed: func(err error) (int, time.Duration) {
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("the first attempt: %v", err)
				}
				next := attempts[0]
				attempts = attempts[1:]
				return connecting(t, next), 5 * time.Second
			},
		})
	}
	client, near := pair(t)
	_, _ = client.Write([]byte("hello")) // before there is a link
	_, ok := d.hub.Lead(take(t, near), tcp("x:1"), node.LeadOptions{
		BearOptions: node.BearOptions{Ended: func(node.Borne) { said <- "led ended" }},
		Timeout:     5 * time.Second,
		Connected:   func() { said <- "led" },
		Failed:      func(err error) { t.Error(err) },
	})
	if !ok {
		t.Fatal("not led")
	}
	d.mustConnect()
	c, err := target.Accept()
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 5)
	if _, err := io.ReadFull(c, b); err != nil || string(b) != "hello" {
		t.Errorf("%q, %v", b, err)
	}
	if a, b := <-said, <-said; a+b != "metled" && a+b != "ledmet" {
		t.Errorf("%s, %s", a, b)
	}
	_, _ = c.Write([]byte("bye"))
	_ = c.Close()
	if got, err := io.ReadAll(client); string(got) != "bye" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	_ = client.Close()
	<-said
	<-said
	d.settles()
}

// TestFailedLeads: each says why, and resets the client.
func TestFailedLeads(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.agent.opened = func(a *tunnel.Arrival) {
		switch a.Address {
		case "refused:1":
			a.Refuse(tunnel.Refused, "no")
		case "nobody:1":
			a.Meet(connecting(t, nobody(t)), node.MeetOptions{
				BearOptions: node.BearOptions{Ended: func(node.Borne) {}}, Failed: func(error) (int, time.Duration) { return -1, 0 },
			})
		}
	}
	lead := func(addr string, timeout time.Duration) (node.Borne, *net.TCPConn, chan error) {
		client, near := pair(t)
		said := make(chan error, 3)
		b, ok := d.hub.Lead(take(t, near), tcp(addr), node.LeadOptions{
			BearOptions: node.BearOptions{Ended: func(node.Borne) { close(said) }},
			Timeout:     timeout, Connected: func() { t.Error("connected") }, Failed: func(err error) { said <- err },
		})
		if !ok {
			t.Fatal("not led")
		}
		return b, client, said
	}
	check := func(addr string, timeout time.Duration, want error) {
		t.Helper()
		_, client, said := lead(addr, timeout)
		defer client.Close()
		if err := <-said; !errors.Is(err, want) {
			t.Errorf("%s: %v", addr, err)
		}
		if _, open := <-said; open {
			t.Errorf("%s: it is said twice", addr)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%s: the client sees %v", addr, err)
		}
	}
	check("away:1", time.Millisecond, node.ErrAway)
	d.mustConnect()
	check("refused:1", time.Minute, node.ErrRefused)
	check("nobody:1", time.Minute, node.ErrFar)
	check("silent:1", 20*time.Millisecond, node.ErrAway)

	b, client, said := lead("silent:1", time.Minute)
	b.Kill()
	if err, open := <-said; open {
		t.Errorf("killed: %v", err)
	}
	_ = client.Close()

	_, client, said = lead("silent:1", time.Minute)
	_ = client.SetLinger(0)
	_ = client.Close() // who does not want to wait any more
	for range said {
	}

	_, client, said = lead("silent:1", time.Minute)
	d.hub.End(tunnel.Gone, "over")
	if err := <-said; !errors.Is(err, node.ErrClosed) {
		t.Errorf("the session has ended: %v", err)
	}
	<-said
	_ = client.Close()
}
