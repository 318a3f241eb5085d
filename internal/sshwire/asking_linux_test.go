package sshwire

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestAsking opens channels for sockets that say first where they go, and gives back those that do not.
func TestAsking(t *testing.T) {
	noLeaks(t)
	target := startTarget(t, func(c *net.TCPConn) { _, _ = io.Copy(c, struct{ io.Reader }{c}) })
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: func(in *Incoming) {
		if in.Type == "direct-tcpip" {
			acceptDirect(in)
		} // else there is no answer
	}})
	c := startClient(t, port, clientConfig(newTestKey(t)), Options{})
	type report struct {
		*Carried
		app  *os.File
		fd   int
		said chan string
	}
	start := func(o CarryOptions, patience time.Duration) *report {
		pair := socketPair(t)
		r := &report{app: os.NewFile(uintptr(pair[1]), "application"), fd: pair[0], said: make(chan string, 9)}
		t.Cleanup(func() { r.app.Close() })
		o.Asking = &Asking{Patience: patience, Left: func() { r.said <- "left" }}
		o.Asking.Ask = func() (string, []byte, Verdict) {
			b := make([]byte, 10)
			n, _ := unix.Read(r.fd, b)
			switch string(b[:max(n, 0)]) {
			case "more":
				_, _ = unix.Write(r.fd, []byte("?"))
			case "open":
				return "direct-tcpip", directExtra(target), OpenNow
			case "hang":
				return "nothing", nil, OpenNow
			case "leave":
				return "", nil, Leave
			}
			return "", nil, AskAgain
		}
		o.Opened = func(*Carried) { r.said <- "opened" }
		o.Failed = func(err error) (int, time.Duration) {
			r.said <- "failed"
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			return -1, 0
		}
		o.Ended = func(*Carried) { r.said <- "ended" }
		r.Carried = c.OpenChannelCarry("", nil, r.fd, o)
		return r
	}
	say := func(r *report, text string) { _, _ = io.WriteString(r.app, text) }
	hear := func(r *report, text string) {
		t.Helper()
		b := make([]byte, len(text))
		if _, err := io.ReadFull(r.app, b); err != nil || string(b) != text {
			t.Errorf("%q, want %q: %v", b, text, err)
		}
	}
	wants := func(r *report, what string) {
		t.Helper()
		if got := <-r.said; got != what {
			t.Errorf("%s, want %s", got, what)
		}
	}
	ours := func(r *report) {
		t.Helper()
		if err := unix.Close(r.fd); err != nil {
			t.Error("the socket was not given back:", err)
		}
	}

	r := start(CarryOptions{}, time.Hour)
	say(r, "more")
	hear(r, "?")
	say(r, "open")
	wants(r, "opened")
	say(r, "ping")
	hear(r, "ping")
	_ = r.app.Close()
	wants(r, "ended")

	r = start(CarryOptions{}, time.Hour)
	say(r, "leave")
	wants(r, "left")
	ours(r)

	r = start(CarryOptions{Opening: time.Millisecond}, time.Hour)
	say(r, "hang")
	wants(r, "failed")
	ours(r)

	wants(start(CarryOptions{}, time.Millisecond), "ended")

	r = start(CarryOptions{}, time.Hour)
	say(r, "more")
	hear(r, "?")
	r.Kill()
	wants(r, "ended")

	r = start(CarryOptions{}, time.Hour)
	say(r, "more")
	hear(r, "?")
	c.Close()
	wants(r, "left")
	ours(r)
	<-c.Done()
	r = start(CarryOptions{}, time.Hour)
	wants(r, "left")
	ours(r)
}
