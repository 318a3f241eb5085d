package sshnode

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/node"
)

func TestBackoff(t *testing.T) {
	b := backoff{first: firstRetry, last: lastRetry}
	want := firstRetry
	for range 10 {
		if got := b.next(); got < want*3/4 || got > want*5/4 {
			t.Errorf("%s, want about %s", got, want)
		}
		want = min(2*want, lastRetry)
	}
	b.reset()
	if got := b.next(); got > firstRetry*5/4 {
		t.Errorf("%s after a reset", got)
	}
}

// TestRetries counts tries on a clock that runs by itself: a node that is not found is tried with backoff, and one that
// somebody has to mend slowly.
func TestRetries(t *testing.T) {
	for _, c := range []struct {
		name        string
		err         error
		least, most int
	}{
		{"away", errors.New("no such host"), 20, 40}, // in ten minutes: each 30 s at the end
		{"refused", &configError{errors.New("nonsense")}, 15, 28},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				tries := 0
				n, err := New(node.Spec{Name: "far", SSH: &node.SSH{Target: "me@far", Jump: "jump"}}, Options{
					Through: func(string) (node.Node, error) { return failing{c.err, &tries}, nil },
				})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
				defer cancel()
				if err := n.Run(ctx); !errors.Is(err, context.DeadlineExceeded) {
					t.Error(err)
				}
				if tries < c.least || tries > c.most {
					t.Errorf("%d tries, want %d to %d", tries, c.least, c.most)
				}
				if why := n.State().Why; !strings.Contains(why, c.err.Error()) {
					t.Errorf("Why is %q", why)
				}
				if err := n.Run(t.Context()); err == nil {
					t.Error("a node ran twice")
				}
			})
		})
	}
}

// TestIdleConnectionStays lets nothing but keepalives pass for an hour.
func TestIdleConnectionStays(t *testing.T) {
	config := &ssh.ServerConfig{NoClientAuth: true}
	key := newSigner(t)
	config.AddHostKey(key)
	known := filepath.Join(t.TempDir(), "known_hosts")
	if err := os.WriteFile(known, []byte("* "+string(ssh.MarshalAuthorizedKey(key.PublicKey()))), 0o600); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		p := &pipes{config: config}
		n, err := New(node.Spec{Name: "far", SSH: &node.SSH{Target: "me@far", Jump: "jump", KnownHosts: []string{known}, Agent: "none"}}, Options{
			Through: func(string) (node.Node, error) { return p, nil },
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- n.Run(ctx) }()
		time.Sleep(time.Hour)
		if s := n.State(); !s.Up || p.dials != 1 {
			t.Errorf("%d connections in an hour, and now %+v", p.dials, s)
		}
		if p.asked.Load() < 200 {
			t.Errorf("%d keepalives in an hour", p.asked.Load())
		}
		cancel()
		<-done
	})
}

// A pipes node dials an SSH server in this process, without a network.
type pipes struct {
	failing
	config *ssh.ServerConfig
	dials  int
	asked  atomic.Int32
}

func (p *pipes) Dial(context.Context, string, string) (net.Conn, error) {
	p.dials++
	a, b := net.Pipe()
	go func() {
		c, chans, reqs, err := ssh.NewServerConn(buffered(b), p.config)
		if err != nil {
			return
		}
		go func() {
			for r := range reqs {
				p.asked.Add(1)
				_ = r.Reply(false, nil)
			}
		}()
		for range chans {
		}
		_ = c.Close()
	}()
	return a, nil
}

// A bufferedPipe takes writes without a reader: both ends of SSH write first.
type bufferedPipe struct {
	net.Conn
	out  chan []byte
	done chan struct{}
	once *sync.Once
}

func buffered(c net.Conn) bufferedPipe {
	p := bufferedPipe{c, make(chan []byte, 1000), make(chan struct{}), new(sync.Once)}
	go func() {
		for {
			select {
			case b := <-p.out:
				if _, err := c.Write(b); err != nil {
					return
				}
			case <-p.done:
				return
			}
		}
	}()
	return p
}

func (p bufferedPipe) Write(b []byte) (int, error) {
	p.out <- bytes.Clone(b)
	return len(b), nil
}

func (p bufferedPipe) Close() error {
	p.once.Do(func() { close(p.done) })
	return p.Conn.Close()
}

// A failing node dials nothing.
type failing struct {
	err   error
	tries *int
}

func (f failing) Dial(context.Context, string, string) (net.Conn, error) {
	*f.tries++
	return nil, f.err
}

func (f failing) Listen(context.Context, string, string) (net.Listener, error) { return nil, f.err }
