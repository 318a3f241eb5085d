//go:build unix

package api

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-net/fairlead/config"
)

func TestListenMode(t *testing.T) {
	path := socketPath(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if err := ln.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket file stays behind: %v", err)
	}
}

func TestListenSecond(t *testing.T) {
	path := serve(t, Options{Table: &fakeTable{}})
	_, err := Listen(path)
	var running *RunningError
	if !errors.As(err, &running) || !strings.Contains(err.Error(), "another fairlead already runs here") || running.Advice() == "" {
		t.Errorf("got %v", err)
	}
	c := NewClient(path)
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("the first one suffered: %v", err)
	}
}

// A daemon that was killed leaves its socket; one that listens without our lock still counts as somebody.
func TestListenStale(t *testing.T) {
	path := socketPath(t)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	old, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); !errors.As(err, new(*RunningError)) {
		t.Errorf("somebody listens: %v", err)
	}
	old.SetUnlinkOnClose(false)
	old.Close()
	ln, err := Listen(path)
	if err != nil {
		t.Fatalf("a stale socket is in the way: %v", err)
	}
	ln.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("a plain file: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("a file that is no socket was removed")
	}
}

// However many start at once, one wins.
func TestListenRace(t *testing.T) {
	path := socketPath(t)
	won := make(chan *Listener, 8)
	var wg sync.WaitGroup
	for range cap(won) {
		wg.Go(func() {
			if ln, err := Listen(path); err == nil {
				won <- ln
			} else if !errors.As(err, new(*RunningError)) {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if len(won) != 1 {
		t.Errorf("%d listeners at one socket", len(won))
	}
	close(won)
	for ln := range won {
		ln.Close()
	}
}

// Connections that say nothing, many times as many as are served, do not keep a client out.
func TestFlood(t *testing.T) {
	path := serve(t, Options{Table: &fakeTable{}})
	var flood []net.Conn
	defer func() {
		for _, c := range flood {
			c.Close()
		}
	}()
	for range 3 * MaxConns / 2 {
		c, err := net.Dial("unix", path)
		if err != nil {
			break // the kernel's queue is full, which is the flood that is meant
		}
		flood = append(flood, c)
		io.WriteString(c, "GET /v1/sta")
	}
	if len(flood) < MaxConns {
		t.Fatalf("the flood has %d connections only", len(flood))
	}
	c := NewClient(path)
	defer c.Close()
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("kept out: %v", err)
	}
}

func TestTooManyAtOnce(t *testing.T) {
	tab := &fakeTable{hold: make(chan struct{}), inside: make(chan struct{}, maxRunning)}
	path := serve(t, Options{Table: tab})
	spec := config.Spec{Listen: "80", To: config.Strings{"192.0.2.1"}}
	var wg sync.WaitGroup
	for range maxRunning {
		wg.Go(func() {
			c := NewClient(path)
			defer c.Close()
			if _, err := c.Put(t.Context(), "web", spec); err != nil {
				t.Error(err)
			}
		})
	}
	for range maxRunning {
		<-tab.inside
	}
	c := NewClient(path)
	defer c.Close()
	_, err := c.Status(t.Context())
	var refused *Error
	if !errors.As(err, &refused) || refused.Code != CodeBusy || refused.Hint == "" {
		t.Errorf("request %d: %v", maxRunning+1, err)
	}
	close(tab.hold)
	wg.Wait()
	if _, err := c.Status(t.Context()); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}
