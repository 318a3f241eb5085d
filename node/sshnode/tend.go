package sshnode

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// tend registers the listener at every connection that comes, until it is closed or ctx ends.
func (l *listener) tend(ctx context.Context) {
	defer close(l.tended)
	defer l.drain()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-l.closed:
			cancel()
		case <-stop:
		}
	}()
	b := backoff{first: firstRetry, last: refusedListen}
	refusals := 0
	for {
		link, err := l.n.acquire(ctx)
		if err != nil {
			return
		}
		link.release() // a listener is no channel
		f, err := link.register(ctx, l, l.wants(refusals))
		switch {
		case err == nil:
			refusals = 0
			b.reset()
			l.up(f)
			select {
			case <-link.done:
				l.down(sshchan.ErrLost)
				continue
			case <-ctx.Done():
				link.cancel(f)
				return
			}
		case ctx.Err() != nil:
			return
		case errors.Is(err, sshchan.ErrLost):
			select {
			case <-link.done:
			case <-ctx.Done():
			}
			continue
		}
		refusals++
		wait := b.next()
		l.down(fmt.Errorf("%w; next try in %s", err, wait.Round(100*time.Millisecond)))
		if refusals == 1 {
			l.n.log.Warn("the SSH server does not listen", "address", l.text, "error", err)
		}
		t := time.NewTimer(wait)
		select {
		case <-link.done:
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
}

// wants is the port to ask for: one that the server chose is kept while it has it for us.
func (l *listener) wants(refusals int) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.port == 0 && refusals < keepPort {
		return l.chose
	}
	return l.port
}

func (l *listener) up(f *forwarding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.shutd {
		return
	}
	l.state = node.State{Up: true, Since: time.Now()}
	if l.network == "tcp" {
		port := f.granted()
		if l.port == 0 {
			l.chose = port
		}
		l.addr = boundAddr(l.host, port)
	}
	select {
	case <-l.bound:
	default:
	}
	l.bound <- l.addr
	l.n.log.Info("the SSH server listens", "address", l.text, "port", strconv.Itoa(int(f.granted())))
}

func (l *listener) down(why error) {
	l.mu.Lock()
	if !l.shutd {
		l.state = node.State{Why: clean(why.Error()), Since: time.Now()}
	}
	l.mu.Unlock()
}

// drain refuses what waits.
func (l *listener) drain() {
	for {
		select {
		case in := <-l.queue:
			in.reject(ssh.Prohibited, "nobody listens any more")
		default:
			return
		}
	}
}
