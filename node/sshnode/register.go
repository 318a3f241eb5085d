package sshnode

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// A forwarding is a listener at one connection.
type forwarding struct {
	l    *listener
	port atomic.Uint32 // 0 until the server has chosen one
}

func (f *forwarding) granted() uint32 { return f.port.Load() }

// register asks the server to listen. Connections may arrive before its answer is read.
func (l *link) register(ctx context.Context, li *listener, port uint32) (*forwarding, error) {
	f := &forwarding{l: li}
	f.port.Store(port)
	request, payload := sshchan.Forward, ssh.Marshal(sshchan.TCPRequest{Host: li.host, Port: port})
	if li.network == "unix" {
		request, payload = sshchan.ForwardUnix, ssh.Marshal(sshchan.UnixRequest{Path: li.host})
	}
	l.mu.Lock()
	l.forwards = append(l.forwards, f)
	l.pending++
	l.mu.Unlock()
	answer := make(chan error, 1)
	go func() { answer <- l.ask(f, request, payload, port) }()
	select {
	case err := <-answer:
		if err != nil {
			l.forget(f)
		}
		return f, err
	case <-ctx.Done():
		// The server may still say yes, and is then told that it is not wanted any more.
		go func() {
			if err := <-answer; err == nil {
				l.cancel(f)
			} else {
				l.forget(f)
			}
		}()
		return nil, ctx.Err()
	}
}

func (l *link) ask(f *forwarding, request string, payload []byte, port uint32) error {
	ok, reply, err := l.wire.request(request, payload)
	if err == nil && ok && f.l.network == "tcp" && port == 0 {
		var m sshchan.PortAnswer
		if err := ssh.Unmarshal(reply, &m); err != nil || m.Port == 0 || m.Port > 65535 {
			ok = false
		} else {
			f.port.Store(m.Port)
		}
	}
	l.mu.Lock()
	l.pending--
	close(l.answered)
	l.answered = make(chan struct{})
	l.mu.Unlock()
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", sshchan.ErrLost, err)
	case !ok && f.l.network == "unix":
		return fmt.Errorf("%w to listen on %s: it may not permit that, or the file exists (StreamLocalBindUnlink of sshd_config)", node.ErrRefused, f.l.text)
	case !ok:
		return fmt.Errorf("%w to listen on %s: it may not permit that, or the port is taken", node.ErrRefused, f.l.text)
	}
	return nil
}

func (l *link) forget(f *forwarding) {
	l.mu.Lock()
	l.forwards = slices.DeleteFunc(l.forwards, func(other *forwarding) bool { return other == f })
	l.mu.Unlock()
}

// cancel tells the server to close the port, and waits a moment for its answer.
func (l *link) cancel(f *forwarding) {
	l.forget(f)
	request, payload := sshchan.Cancel, ssh.Marshal(sshchan.TCPRequest{Host: f.l.host, Port: f.granted()})
	if f.l.network == "unix" {
		request, payload = sshchan.CancelUnix, ssh.Marshal(sshchan.UnixRequest{Path: f.l.host})
	}
	answered := make(chan struct{})
	go func() {
		_, _, _ = l.wire.request(request, payload)
		close(answered)
	}()
	t := time.NewTimer(cancelWait)
	defer t.Stop()
	select {
	case <-answered:
	case <-l.done:
	case <-t.C:
	}
}

// arrive hands a channel to the listener that it is for. It does not wait for anything: where the server has yet to say which port
// it chose, and the channel may be for that, a goroutine does.
func (l *link) arrive(ch arriving) {
	parse := sshchan.ParseForwarded
	if ch.kind == sshchan.ForwardedUnix {
		parse = sshchan.ParseForwardedUnix
	}
	a, err := parse(ch.extra)
	if err != nil {
		ch.reject(ssh.ConnectionFailed, "malformed request")
		return
	}
	in := &incoming{link: l, arriving: ch, arrival: a}
	if f, answered := l.find(a); f != nil || answered == nil {
		in.handTo(f)
	} else {
		l.late.Go(func() { in.handTo(l.await(a)) })
	}
}

// find is the forwarding that a connection is for, nil if there is none. Then answered is closed when there may be one.
func (l *link) find(a sshchan.Arrival) (f *forwarding, answered <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f = match(l.forwards, a); f == nil && l.pending > 0 {
		answered = l.answered
	}
	return f, answered
}

// await is find, and waits for the server.
func (l *link) await(a sshchan.Arrival) *forwarding {
	for {
		f, answered := l.find(a)
		if answered == nil {
			return f
		}
		t := time.NewTimer(time.Second)
		select {
		case <-answered:
			t.Stop()
		case <-t.C:
			return nil
		case <-l.done:
			t.Stop()
			return nil
		}
	}
}

// match wants the address that was asked for, as OpenSSH sends it. Other servers send the one that they bound: then the port
// decides, if it is the port of one listener only, or of one for every address.
func match(forwards []*forwarding, a sshchan.Arrival) *forwarding {
	var loose []*forwarding
	for _, f := range forwards {
		switch {
		case f.l.network == "unix":
			if f.l.host == a.At.Path {
				return f
			}
		case a.At.Path != "" || f.granted() != uint32(a.At.Port):
		case f.l.host == a.At.Host:
			return f
		default:
			loose = append(loose, f)
		}
	}
	if len(loose) == 1 {
		return loose[0]
	}
	for _, f := range loose {
		if f.l.host == "" || f.l.host == "0.0.0.0" || f.l.host == "::" {
			return f
		}
	}
	return nil
}
