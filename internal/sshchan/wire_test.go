package sshchan

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"
)

// linked is a Wire and the far end of it.
func linked(t *testing.T) (*Wire, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	near, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { near.Close(); far.Close() })
	return NewWire(near), far
}

func TestWireReads(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 100<<10)
	for _, loggedIn := range []bool{false, true} {
		w, far := linked(t)
		if loggedIn {
			w.LoggedIn()
		}
		go func() {
			_, _ = far.Write(want)
			far.Close()
		}()
		if got, err := io.ReadAll(iotest.HalfReader(w)); err != nil || !bytes.Equal(got, want) {
			t.Errorf("logged in %v: %d bytes, %v", loggedIn, len(got), err)
		}
		if !isClosed(w.Done()) {
			t.Error("the end was not noticed")
		}
	}
}

// TestWireEnds tells a deadline of a login, which the connection survives, from the end.
func TestWireEnds(t *testing.T) {
	w, _ := linked(t)
	_ = w.SetReadDeadline(time.Now().Add(-time.Second))
	if _, err := w.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || isClosed(w.Done()) {
		t.Errorf("%v, ended %v", err, isClosed(w.Done()))
	}
	_ = w.SetReadDeadline(time.Time{})
	ended := make(chan error, 1)
	go func() { _, err := w.Read(make([]byte, 1)); ended <- err }()
	_ = w.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) || !isClosed(w.Done()) {
		t.Errorf("%v, ended %v", err, isClosed(w.Done()))
	}
}

func TestKeepalive(t *testing.T) {
	for _, c := range []struct {
		name           string
		questions      int
		answers, speak bool
		want           time.Duration // when it is dead; 0 is never
		asked          int64
	}{
		{name: "dead", questions: 1, want: 20 * time.Second, asked: 1},
		{name: "dead, and asked often", questions: 3, want: 40 * time.Second, asked: 2}, // one stays without an answer, one waits for its turn
		{name: "answers", questions: 1, answers: true, asked: 59},
		{name: "speaks by itself", questions: 1, speak: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				w := NewWire(near)
				began, died := time.Now(), time.Duration(0)
				var asked atomic.Int64
				var running sync.WaitGroup
				running.Go(func() { _, _ = io.Copy(io.Discard, w) })
				if c.speak {
					running.Go(func() {
						for err := error(nil); err == nil; time.Sleep(9 * time.Second) {
							_, err = far.Write([]byte("x"))
						}
					})
				}
				time.AfterFunc(10*time.Minute-time.Second, func() { w.Close() })
				w.Keepalive(10*time.Second, c.questions, func() {
					asked.Add(1)
					if c.answers {
						_, _ = far.Write([]byte("x"))
					} else {
						<-w.Done()
					}
				}, func(time.Duration) {
					died = time.Since(began)
					_ = w.Close()
				})
				running.Wait()
				if died != c.want || asked.Load() != c.asked {
					t.Errorf("dead after %s, asked %d times; want %s, %d", died, asked.Load(), c.want, c.asked)
				}
			})
		})
	}
}
