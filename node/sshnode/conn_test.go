package sshnode

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// stuck returns a connection to a server that accepts channels and neither reads nor writes, nor answers when they close.
func stuck(t *testing.T) net.Conn {
	t.Helper()
	s := startServer(t, &ssh.ServerConfig{}, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
		go ssh.DiscardRequests(reqs)
		for ch := range chans {
			_, reqs, _ := ch.Accept()
			go ssh.DiscardRequests(reqs)
		}
	})
	c, err := runNode(t, s.spec(), Options{}).Dial(t.Context(), "tcp", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestReadDeadline(t *testing.T) {
	t.Parallel()
	c := stuck(t)
	defer c.Close()
	buf := make([]byte, 1)
	for range 2 {
		_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := c.Read(buf); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("Read: %v", err)
		}
	}
	_ = c.SetReadDeadline(time.Time{})
	done := make(chan error, 1)
	go func() { _, err := c.Read(buf); done <- err }()
	time.Sleep(time.Millisecond)
	_ = c.SetReadDeadline(time.Now().Add(-time.Second)) // ends those who wait
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
	var timeout net.Error
	if _, err := c.Read(buf); !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Errorf("Read: %v is no timeout", err)
	}
}

func TestWriteDeadline(t *testing.T) {
	t.Parallel()
	c := stuck(t)
	defer c.Close()
	if wrote := stuff(t, c); wrote < 1<<20 || wrote > 8<<20 {
		t.Errorf("wrote %d bytes; want about the window", wrote)
	}
}

// stuff writes until nothing goes in any more.
func stuff(t *testing.T, c net.Conn) (total int) {
	t.Helper()
	for {
		_ = c.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		wrote, err := c.Write(make([]byte, 1<<20))
		total += wrote
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded) && wrote == 0 && total > 0:
			_ = c.SetWriteDeadline(time.Time{})
			return total
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			t.Errorf("Write: %v", err)
			return total
		}
	}
}

func TestCloseEndsWaits(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]func(net.Conn) error{
		"Read":  func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err },
		"Write": func(c net.Conn) error { _, err := c.Write(make([]byte, 64<<20)); return err },
		"WriteTo": func(c net.Conn) error {
			_, err := c.(io.WriterTo).WriteTo(io.Discard)
			return err
		},
		"ReadFrom": func(c net.Conn) error {
			_, err := c.(io.ReaderFrom).ReadFrom(bytes.NewReader(make([]byte, 64<<20)))
			return err
		},
		"CloseWrite": func(c net.Conn) error { return c.(*conn).CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := stuck(t)
			if name == "CloseWrite" {
				stuff(t, c) // it waits for what is not sent yet
			}
			done := make(chan error, 1)
			go func() { done <- wait(c) }()
			time.Sleep(50 * time.Millisecond)
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			select {
			case err := <-done:
				if !errors.Is(err, net.ErrClosed) {
					t.Errorf("%v, want %v", err, net.ErrClosed)
				}
			case <-time.After(patience):
				t.Error("it waits still")
			}
			if err := c.Close(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the second Close: %v", err)
			}
		})
	}
}

// TestCloseSendsWhatWasWritten closes at once after writing; nothing of it is lost.
func TestCloseSendsWhatWasWritten(t *testing.T) {
	t.Parallel()
	got := make(chan []byte, 1)
	s := startServer(t, &ssh.ServerConfig{}, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
		go ssh.DiscardRequests(reqs)
		for ch := range chans {
			c, reqs, _ := ch.Accept()
			go ssh.DiscardRequests(reqs)
			all, _ := io.ReadAll(c)
			got <- all
			_ = c.Close()
		}
	})
	c, err := runNode(t, s.spec(), Options{}).Dial(t.Context(), "tcp", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	want := []byte(strings.Repeat("fairlead", 1<<14))
	if _, err := c.Write(want); err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if all := <-got; !bytes.Equal(all, want) {
		t.Errorf("%d bytes arrived, want %d", len(all), len(want))
	}
}

func TestFarEndCloses(t *testing.T) {
	t.Parallel()
	s := startServer(t, &ssh.ServerConfig{}, func(_ *ssh.ServerConn, chans <-chan ssh.NewChannel, reqs <-chan *ssh.Request) {
		go ssh.DiscardRequests(reqs)
		for ch := range chans {
			c, reqs, _ := ch.Accept()
			go ssh.DiscardRequests(reqs)
			_, _ = c.Write([]byte("bye"))
			_ = c.Close()
		}
	})
	c, err := runNode(t, s.spec(), Options{}).Dial(t.Context(), "tcp", "192.0.2.1:80")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if all, err := io.ReadAll(c); err != nil || string(all) != "bye" {
		t.Errorf("%q, %v", all, err)
	}
	eventually(t, "writing fails", func() bool { _, err := c.Write([]byte("x")); return errors.Is(err, errReset) })
}
