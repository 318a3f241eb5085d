package main

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node/host"
)

// A sharedBuffer may be written and read at once.
type sharedBuffer struct {
	mu  sync.Mutex
	all bytes.Buffer
}

func (b *sharedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.Write(p)
}

func (b *sharedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.all.String()
}

// A server that was asked for before the daemon runs is started once, and a client that came first stays.
func TestSSHServerStartsOnce(t *testing.T) {
	addr := "127.0.0.1:" + anyPort(t)
	var log sharedBuffer
	s := newSSHDaemon(host.New(), t.TempDir(), slog.New(slog.NewTextHandler(&log, nil)))
	s.guests = startGuests(t, func() {})
	listen := listenAt(t, addr)
	s.settle(&config.SSHD{Listen: []forward.Listen{listen}})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { s.run(ctx) })
	defer running.Wait()
	defer cancel()
	conn, err := net.Dial("tcp", addr)
	for end := time.Now().Add(10 * time.Second); err != nil; conn, err = net.Dial("tcp", addr) {
		if time.Now().After(end) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	defer conn.Close()
	if _, err := io.ReadFull(conn, make([]byte, len("SSH-2.0-"))); err != nil {
		t.Error(err)
	}
	time.Sleep(50 * time.Millisecond)
	if n := strings.Count(log.String(), "the SSH server listens"); n != 1 {
		t.Errorf("the server was started %d times", n)
	}
}
