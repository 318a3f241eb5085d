package sshchan

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/net/nettest"
)

// pair is both ends of one channel in an SSH connection of its own. stop ends the connection.
func pair(t *testing.T) (c1, c2 *Conn, stop func()) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan *Conn, 1)
	go func() {
		defer close(accepted)
		raw, err := l.Accept()
		if err != nil {
			return
		}
		config := &ssh.ServerConfig{NoClientAuth: true}
		config.AddHostKey(key)
		wire := NewWire(raw)
		_, channels, requests, err := ssh.NewServerConn(wire, config)
		if err != nil {
			return
		}
		go ssh.DiscardRequests(requests)
		channel, channelRequests, err := (<-channels).Accept()
		if err == nil {
			wire.LoggedIn()
			accepted <- New(channel, channelRequests, Ends{Local: l.Addr(), Remote: raw.RemoteAddr(), Wire: wire})
		}
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	wire := NewWire(raw)
	conn, channels, globals, err := ssh.NewClientConn(wire, "", &ssh.ClientConfig{HostKeyCallback: ssh.InsecureIgnoreHostKey()})
	if err != nil {
		t.Fatal(err)
	}
	wire.LoggedIn()
	client := ssh.NewClient(conn, channels, globals)
	channel, requests, err := client.OpenChannel("direct-tcpip", nil)
	if err != nil {
		t.Fatal(err)
	}
	c2 = <-accepted
	if c2 == nil {
		t.Fatal("the channel was not accepted")
	}
	return New(channel, requests, Ends{Local: raw.LocalAddr(), Remote: raw.RemoteAddr(), Wire: wire}), c2, func() { client.Close() }
}

func TestConn(t *testing.T) {
	nettest.TestConn(t, func() (net.Conn, net.Conn, func(), error) {
		c1, c2, end := pair(t)
		return c1, c2, func() { c1.Close(); c2.Close(); end() }, nil
	})
}

func TestHalfClose(t *testing.T) {
	c1, c2, end := pair(t)
	defer end()
	sent := bytes.Repeat([]byte("0123456789abcdef"), 256<<10) // more than a window
	go func() {
		_, _ = c1.Write(sent)
		_ = c1.CloseWrite()
	}()
	got, err := io.ReadAll(c2)
	if err != nil || !bytes.Equal(got, sent) {
		t.Fatalf("%d bytes of %d, %v", len(got), len(sent), err)
	}
	if _, err := c1.Write([]byte("more")); err == nil {
		t.Error("something was written after CloseWrite")
	}
	if _, err := c2.Write([]byte("answer")); err != nil {
		t.Fatal(err)
	}
	if err := c2.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(c1); err != nil || string(got) != "answer" {
		t.Errorf("%q, %v", got, err)
	}
	if err := c2.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the second Close: %v", err)
	}
}

func TestWriteWaitsForTheFarEnd(t *testing.T) {
	c1, c2, end := pair(t)
	defer end()
	if err := c1.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := c1.Write(make([]byte, 8<<20))
	if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || n == 8<<20 {
		t.Errorf("%d bytes were written to who does not read: %v", n, err)
	}
	end()
	if err := c1.SetDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	for err = nil; err == nil; {
		_, err = c1.Write(make([]byte, 1<<10))
	}
	if !errors.Is(err, ErrLost) {
		t.Errorf("a write to a lost connection: %v, want %v", err, ErrLost)
	}
	for _, c := range []*Conn{c1, c2} {
		if _, err := io.Copy(io.Discard, c); !errors.Is(err, ErrLost) {
			t.Errorf("a read from a lost connection: %v, want %v", err, ErrLost)
		}
	}
}

func TestNothingStays(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 5 {
		c1, c2, end := pair(t)
		if _, err := c1.Write(make([]byte, 64<<10)); err != nil {
			t.Fatal(err)
		}
		if _, err := c2.Read(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		c1.Close()
		c2.Close()
		end()
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > before; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			buffer := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, there were %d:\n%s", runtime.NumGoroutine(), before, buffer[:runtime.Stack(buffer, true)])
		}
	}
}
