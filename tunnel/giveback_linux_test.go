package tunnel_test

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
)

// unanswered leads a client to somebody who says nothing.
func (d *duo) unanswered(said chan<- string) (client net.Conn, fd int, b node.Borne) {
	d.t.Helper()
	c, near := pair(d.t)
	fd = take(d.t, near)
	b, ok := d.hub.Lead(fd, tcp("silent:1"), node.LeadOptions{
		BearOptions: node.BearOptions{Ended: func(node.Borne) { said <- "ended" }},
		Timeout:     time.Minute,
		Connected:   func() { said <- "connected" },
		Failed:      func(err error) { said <- err.Error() },
		Left:        func() { said <- "left" },
	})
	if !ok {
		d.t.Fatal("not led")
	}
	return c, fd, b
}

// TestUnansweredSocketsAreGivenBack: when the session ends, or goes on in another process, a client whose stream was not answered is the caller's
// again, with all that he has said.
func TestUnansweredSocketsAreGivenBack(t *testing.T) {
	for name, end := range map[string]func(*duo){
		"ended":  func(d *duo) { d.hub.End(tunnel.Gone, "over") },
		"frozen": func(d *duo) { _, _ = d.hub.Freeze() },
		"never had a link": func(d *duo) {
			d.cancel()
			d.ended.Wait()
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
			opened := make(chan struct{}, 1)
			d.agent.opened = func(*tunnel.Arrival) { opened <- struct{}{} }
			if name != "never had a link" {
				d.mustConnect()
			}
			said := make(chan string, 5)
			client, fd, b := d.unanswered(said)
			defer client.Close()
			if _, err := client.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if name != "never had a link" {
				<-opened
			}
			end(d)
			if got := <-said; got != "left" {
				t.Fatal(got)
			}
			b.Kill() // of what it does not carry any more
			poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			buf := make([]byte, 10)
			if _, err := unix.Poll(poll, 10_000); err != nil {
				t.Fatal(err)
			}
			if n, err := unix.Read(fd, buf); err != nil || string(buf[:max(n, 0)]) != "hello" {
				t.Errorf("%q, %v", buf[:max(n, 0)], err)
			}
			_ = unix.Close(fd)
			if _, err := client.Read(buf); err != io.EOF {
				t.Errorf("the client sees %v", err)
			}
			select {
			case got := <-said:
				t.Error(got)
			default:
			}
		})
	}
}

// TestWhoLeavesIsNoFailure: a client who does not wait for the answer has ended, and nothing has failed.
func TestWhoLeavesIsNoFailure(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.agent.opened = func(*tunnel.Arrival) {}
	d.mustConnect()
	said := make(chan string, 5)
	client, _, _ := d.unanswered(said)
	_ = client.(*net.TCPConn).SetLinger(0)
	_ = client.Close()
	if got := <-said; got != "ended" {
		t.Error(got)
	}
	d.settles()
}

// crowded is a listener whose queue is full, so that to connect takes until somebody is accepted. It is one that accepts by hand.
func crowded(t *testing.T) (l *net.TCPListener) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0))
	}
	if err != nil {
		t.Fatal(err)
	}
	l = listenerOf(t, fd)
	t.Cleanup(func() { _ = l.Close() })
	filler := connecting(t, addrOf(l))
	t.Cleanup(func() { _ = unix.Close(filler) })
	waitWritable(t, filler)
	return l
}

// TestSlowTargetsAreAcceptedFirst: who waits for a target that takes its time has an answer soon, and the target gets what was said meanwhile. One
// that does not connect in the end resets the stream.
func TestSlowTargetsAreAcceptedFirst(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	d.mustConnect()
	slow, dying := crowded(t), crowded(t)
	said := map[string]chan string{"slow:1": make(chan string, 5), "dying:1": make(chan string, 5)}
	d.agent.opened = func(a *tunnel.Arrival) {
		said, to := said[a.Address], slow
		if a.Address == "dying:1" {
			to = dying
		}
		a.Meet(connecting(t, addrOf(to)), node.MeetOptions{
			BearOptions: node.BearOptions{Ended: func(node.Borne) { said <- "ended" }}, Timeout: time.Minute, Connected: func() { said <- "connected" },
			Failed: func(error) (int, time.Duration) {
				said <- "failed"
				return -1, 0
			},
		})
	}
	check := func(addr, first string) {
		t.Helper()
		if a, b := <-said[addr], <-said[addr]; a != first || b != "ended" {
			t.Errorf("%s: %s, %s", addr, a, b)
		}
	}
	one, other := d.open(d.hub, tcp("slow:1")), d.open(d.hub, tcp("dying:1"))
	if len(said["slow:1"])+len(said["dying:1"]) > 0 {
		t.Error("a target has been quick")
	}
	_ = dying.Close()
	if _, err := one.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	_ = one.CloseWrite()
	var c net.Conn
	for range 2 { // first comes who fills the queue
		var err error
		if c, err = slow.Accept(); err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("%q, %v", got, err)
	}
	_ = c.Close()
	_, _ = io.ReadAll(one)
	_ = one.Close()
	check("slow:1", "connected")
	if _, err := other.Read(make([]byte, 1)); err == nil || err == io.EOF {
		t.Errorf("the target has not connected: %v", err)
	}
	_ = other.Close()
	check("dying:1", "failed")
	d.settles()
}

// listenerOf is a listening socket as one of package net's.
func listenerOf(t *testing.T, fd int) *net.TCPListener {
	t.Helper()
	f := os.NewFile(uintptr(fd), "listener")
	defer f.Close()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return l.(*net.TCPListener)
}

func waitWritable(t *testing.T, fd int) {
	t.Helper()
	if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 10_000); err != nil {
		t.Fatal(err)
	}
}
