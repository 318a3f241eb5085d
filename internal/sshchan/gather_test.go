package sshchan

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestGathererKeepsOrder writes pieces of all sizes, more than there is room for, and closes at once.
func TestGathererKeepsOrder(t *testing.T) {
	near, far := net.Pipe()
	g := newGatherer(near)
	var want bytes.Buffer
	got := make(chan []byte)
	go func() {
		all, _ := io.ReadAll(far)
		got <- all
	}()
	for i, size := range []int{0, 1, 4096, 35_000, gatherSize - 1, gatherSize, gatherSize + 1, 3 * gatherSize, 17} {
		piece := bytes.Repeat([]byte{byte('a' + i)}, size)
		want.Write(piece)
		if n, err := g.Write(piece); err != nil || n != size {
			t.Fatalf("%d bytes of %d, %v", n, size, err)
		}
	}
	if err := g.close(); err != nil {
		t.Error(err)
	}
	if all := <-got; !bytes.Equal(all, want.Bytes()) {
		t.Errorf("%d bytes arrived, want %d", len(all), want.Len())
	}
	if _, err := g.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after close: %v", err)
	}
}

// TestGathererGathers has a connection that is busy with the first piece: what comes meanwhile is written at once.
func TestGathererGathers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &heldConn{hold: make(chan struct{})}
		g := newGatherer(conn)
		for range 10 {
			_, _ = g.Write([]byte("packet "))
			synctest.Wait()
		}
		close(conn.hold)
		_ = g.close()
		if len(conn.writes) != 2 || conn.writes[0] != len("packet ") || conn.writes[1] != 9*len("packet ") {
			t.Errorf("written were %v bytes", conn.writes)
		}
	})
}

// heldConn writes nothing until hold is closed.
type heldConn struct {
	net.Conn
	hold   chan struct{}
	writes []int
}

func (c *heldConn) Write(p []byte) (int, error) {
	<-c.hold
	c.writes = append(c.writes, len(p))
	return len(p), nil
}

func (c *heldConn) Close() error { return nil }

// TestGathererIsBounded has a far end that takes nothing. Writers wait, and are let go when it is closed; so is close, in time.
func TestGathererIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, _ := net.Pipe()
		g := newGatherer(near)
		wrote, failed := 0, error(nil)
		var writer sync.WaitGroup
		writer.Go(func() {
			for n := 0; failed == nil; wrote += n {
				n, failed = g.Write(make([]byte, 10_000))
			}
		})
		synctest.Wait()
		began := time.Now()
		_ = g.close()
		_ = g.close() // does nothing more
		writer.Wait()
		if wrote > 2*gatherSize || !errors.Is(failed, net.ErrClosed) {
			t.Errorf("%d bytes were taken, then %v", wrote, failed)
		}
		if took := time.Since(began); took != flushTime {
			t.Errorf("close took %s, want %s", took, flushTime)
		}
	})
}

// TestGathererTellsErrors has the far end go away.
func TestGathererTellsErrors(t *testing.T) {
	near, far := net.Pipe()
	g := newGatherer(near)
	_ = far.Close()
	var err error
	for end := time.Now().Add(patience); err == nil && time.Now().Before(end); {
		_, err = g.Write([]byte("x"))
	}
	if !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("%v, want %v", err, io.ErrClosedPipe)
	}
	<-g.over
	_ = g.close()
}

// TestWireLogsIn keeps to deadlines as long as the login lasts, and is without a goroutine.
func TestWireLogsIn(t *testing.T) {
	near, far := net.Pipe()
	w := NewWire(near)
	_ = w.SetDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := w.Write([]byte("hello")); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Write: %v", err)
	}
	if _, err := w.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("Read: %v", err)
	}
	_ = w.SetDeadline(time.Time{})
	w.LoggedIn()
	got := make(chan []byte)
	go func() { all, _ := io.ReadAll(far); got <- all }()
	if _, err := w.Write([]byte("bye")); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if all := <-got; string(all) != "bye" {
		t.Errorf("%q arrived", all)
	}
}
