package sshchan

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// patience is how long tests wait for what has to come.
const patience = 20 * time.Second

// eventually waits until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// stuck is a channel whose far end neither reads nor writes.
func stuck(t *testing.T) *Conn {
	t.Helper()
	c, _, stop := pair(t)
	t.Cleanup(stop)
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
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := stuck(t)
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

// TestClosesDoNotWait ends a direction, and then the channel, while the far end takes nothing.
func TestClosesDoNotWait(t *testing.T) {
	t.Parallel()
	c := stuck(t)
	stuff(t, c)
	done := make(chan error, 1)
	go func() { done <- errors.Join(c.CloseWrite(), c.Close()) }()
	select {
	case err := <-done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Error("they wait still")
	}
}

// TestGiveUp has the time be over that a far end is given to take what was written before Close.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	c := stuck(t)
	stuff(t, c)
	_ = c.Close()
	c.giveUp()
	for what, end := range map[string]<-chan struct{}{"sender": c.out.over, "channel": c.gone} {
		select {
		case <-end:
		case <-time.After(patience):
			t.Errorf("the %s is still there", what)
		}
	}
}

// TestCloseSendsWhatWasWritten closes at once after writing; nothing of it is lost.
func TestCloseSendsWhatWasWritten(t *testing.T) {
	t.Parallel()
	c1, c2, end := pair(t)
	defer end()
	want := bytes.Repeat([]byte("fairlead"), 1<<14)
	if _, err := c1.Write(want); err != nil {
		t.Fatal(err)
	}
	_ = c1.Close()
	if all, err := io.ReadAll(c2); err != nil || !bytes.Equal(all, want) {
		t.Errorf("%d bytes arrived (%v), want %d", len(all), err, len(want))
	}
}

func TestFarEndCloses(t *testing.T) {
	t.Parallel()
	c1, c2, end := pair(t)
	defer end()
	_, _ = c2.Write([]byte("bye"))
	_ = c2.Close()
	if all, err := io.ReadAll(c1); err != nil || string(all) != "bye" {
		t.Errorf("%q, %v", all, err)
	}
	eventually(t, "writing to fail", func() bool { _, err := c1.Write([]byte("x")); return errors.Is(err, ErrReset) })
}

func TestGone(t *testing.T) {
	requests, gone := make(chan *ssh.Request), make(chan struct{})
	New(nil, requests, Ends{Gone: func() { close(gone) }})
	close(requests)
	<-gone
}

// TestOpenIsLate has a far end answer when nobody waits any more.
func TestOpenIsLate(t *testing.T) {
	for _, answer := range []error{nil, errors.New("no")} {
		far := &slowConn{answer: make(chan error), channel: &closingChannel{closed: make(chan struct{})}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		late := make(chan struct{})
		if _, _, err := Open(ctx, far, "x", nil, func() { close(late) }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v, want %v", err, context.Canceled)
		}
		far.answer <- answer
		<-late
		if isClosed(far.channel.closed) != (answer == nil) {
			t.Errorf("the answer was %v; closed is %v", answer, answer != nil)
		}
	}
}

type slowConn struct {
	ssh.Conn
	answer  chan error
	channel *closingChannel
}

func (c *slowConn) OpenChannel(string, []byte) (ssh.Channel, <-chan *ssh.Request, error) {
	requests := make(chan *ssh.Request)
	close(requests)
	return c.channel, requests, <-c.answer
}

type closingChannel struct {
	ssh.Channel
	closed chan struct{}
}

func (c *closingChannel) Close() error {
	close(c.closed)
	return nil
}
