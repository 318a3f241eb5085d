package link

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// When a QUIC link is given up because nothing comes from the other end. QUIC repeats what was not acknowledged less and less often, and would wait for
// long. So whoever hears nothing asks again and again, each time in a packet of its own: at a loss of one packet in ten each way, all of them together get
// lost once in ten thousand silences.
const (
	silenceLook  = 750 * time.Millisecond // a session says something every 2 s at the least
	silenceQuiet = 3                      // looks without a packet, before the other end is asked
	silenceAgain = 500 * time.Millisecond // or a round trip, where that is longer: the next one is asked
	silenceAsks  = 5                      // and after as many without a packet the link is dead

	knockTime = time.Second // for the ICMP to come back
)

// A silence watches a QUIC link for packets from the other end. It counts looks and questions rather than time: a process that was stopped
// for a while, or has to wait for a processor, has not listened either.
type silence struct {
	link  *quicLink
	knock func() error // tells why nobody is there, or nothing; nil: that cannot be found out

	mu    sync.Mutex
	timer *time.Timer // nil: not watched, or not any more
	heard uint64      // packets
	since time.Time   // of the last look that found some
	quiet int         // looks since
	asked int
}

// watch begins it, and ends it with the connection.
func (s *silence) watch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link.conn.Context().Err() != nil {
		return
	}
	s.since = time.Now()
	s.timer = time.AfterFunc(silenceLook, s.look)
}

func (s *silence) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer != nil {
		s.timer.Stop()
		s.timer = nil
	}
}

func (s *silence) look() {
	stats := s.link.conn.ConnectionStats()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.timer == nil {
		return
	}
	wait := silenceLook
	if stats.PacketsReceived != s.heard {
		s.heard, s.since, s.quiet, s.asked = stats.PacketsReceived, time.Now(), 0, 0
	} else if s.quiet++; s.quiet >= silenceQuiet {
		if s.asked >= silenceAsks {
			s.timer = nil
			go s.link.lost(fmt.Errorf("nothing was heard for %v", time.Since(s.since).Round(time.Second)))
			return
		}
		s.link.nudge()
		if s.asked++; s.asked == 1 && s.knock != nil {
			go s.ask(s.heard)
		}
		wait = max(silenceAgain, stats.SmoothedRTT)
	}
	s.timer.Reset(wait)
}

// ask ends the link if the other end's host says that nobody is there, and nothing else has come meanwhile.
func (s *silence) ask(heard uint64) {
	err := s.knock()
	if err != nil && s.link.conn.ConnectionStats().PacketsReceived == heard {
		s.link.lost(err)
	}
}

// lost ends the link because the other end is not there any more.
func (l *quicLink) lost(why error) {
	l.end(why)
	_ = l.conn.CloseWithError(0, "")
}

// A GoneError is that the hub's host has said that nobody listens at its port any more.
type GoneError struct{ Hub netip.AddrPort }

func (e *GoneError) Error() string { return fmt.Sprintf("nobody listens at %s any more", e.Hub) }
func (e *GoneError) Unwrap() error { return syscall.ECONNREFUSED }

// knock sends something to a hub that means nothing to it, from a socket that learns of the ICMP that comes back when nobody is there: one that may go by
// any address of this host, as a link's, does not.
func knock(hub netip.AddrPort, in func(func() error) error) error {
	var conn *net.UDPConn
	err := in(func() (err error) {
		conn, err = net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(hub))
		return err
	})
	if err != nil {
		return nil //nolint:nilerr // it has to be this host's network, which is no news about the hub
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(knockTime))
	_, err = conn.Write([]byte{0}) // no packet of QUIC begins like that
	if err == nil {
		_, err = conn.Read(make([]byte, 1))
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return &GoneError{hub}
	}
	return nil
}
