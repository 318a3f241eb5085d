package link

import (
	"context"
	"errors"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead-net/fairlead/tunnel"
)

// away waits until a link has ended by itself, and says why.
func away(t *testing.T, l tunnel.Link) error {
	t.Helper()
	select {
	case <-l.Done():
	case <-time.After(30 * time.Second):
		t.Fatal("the link goes on")
	}
	return l.Err()
}

// listenAt is a hub that can be killed: it has not the time to say so.
func listenAt(t *testing.T, same *Identity, tcp net.Listener, udp net.PacketConn) (l *Listener, kill func()) {
	l = NewListener(ListenOptions{Identity: same, TCP: []net.Listener{tcp}, UDP: []net.PacketConn{udp}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan bool)
	go func() {
		_ = l.Run(ctx)
		close(ended)
	}()
	return l, func() {
		_ = udp.Close()
		cancel()
		<-ended
	}
}

// killable is a link to a hub that can be killed.
func killable(t *testing.T) (agent tunnel.Link, same *Identity, at string, kill func()) {
	same = identity(t)
	tcp, udp := sockets(t)
	first, kill := listenAt(t, same, tcp, udp)
	agent, err := dialer(t, &bench{Listener: first, addr: tcp.Addr().String()}, nil).by(t.Context(), QUIC)
	if err != nil {
		t.Fatal(err)
	}
	hubEnd, err := first.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		agent.Close()
		hubEnd.Close()
	})
	lanes(t, agent, hubEnd)
	return agent, same, udp.LocalAddr().String(), kill
}

// TestKilled: a hub that was killed, and is there again, is found out by what it answers, and not by its silence.
func TestKilled(t *testing.T) {
	leaks(t)
	agent, same, at, kill := killable(t)
	kill()
	udp, err := net.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, end := listenAt(t, same, tcp, udp)
	defer end()
	agent.(*quicLink).nudge()
	if err, reset := away(t, agent), (*quic.StatelessResetError)(nil); !errors.As(err, &reset) {
		t.Errorf("the link ended otherwise: %v", err)
	}
}

// TestKilledForGood: a hub that was killed, and is not there again, is found out by what its host answers.
func TestKilledForGood(t *testing.T) {
	t.Parallel()
	for range 5 {
		agent, _, at, kill := killable(t)
		kill()
		err := away(t, agent)
		udp, taken := net.ListenPacket("udp", at)
		if taken != nil {
			continue // by another test, which has answered in the place of this host
		}
		_ = udp.Close()
		if gone := (*GoneError)(nil); !errors.As(err, &gone) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("the link ended otherwise: %v", err)
		}
		return
	}
	t.Fatal("each port of a killed hub was taken by somebody else")
}
