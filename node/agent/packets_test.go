package agent

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/fairlead-net/fairlead/internal/deadline"
)

func newPackets() *packetConn {
	return &packetConn{
		asking: &asking{network: "udp", closed: make(chan struct{})}, got: make(chan datagram, datagramQueue),
		reading: deadline.New(), flows: map[netip.AddrPort]net.Conn{},
	}
}

var client = netip.MustParseAddrPort("192.0.2.1:1000")

// TestUnreadDatagramsAreBounded: what nobody reads is bounded in bytes, and what is read makes room.
func TestUnreadDatagramsAreBounded(t *testing.T) {
	c := newPackets()
	there, here := net.Pipe()
	var receiving sync.WaitGroup
	receiving.Go(func() { c.receive(here, c.enter(client, here)) })
	p := make([]byte, 60000)
	for range 2 {
		for range datagramQueue {
			if _, err := there.Write(p); err != nil {
				t.Fatal(err)
			}
		}
		n := 0
		for len(c.got) > 0 {
			m, _, err := c.ReadFrom(p)
			if err != nil {
				t.Fatal(err)
			}
			n += m
		}
		if n < datagramBytes/2 || n > datagramBytes+len(p) { // the last one may have had to wait for the first to be read
			t.Errorf("%d bytes were kept", n)
		}
	}
	_ = there.Close()
	receiving.Wait()
}

// TestAnswerToAClientWhoIsGone: that one flow has ended is no error of the connection that serves all clients.
func TestAnswerToAClientWhoIsGone(t *testing.T) {
	c := newPackets()
	there, here := net.Pipe()
	_ = there.Close()
	_ = here.Close()
	c.enter(client, closedConn{here})
	if n, err := c.WriteTo([]byte("answer"), net.UDPAddrFromAddrPort(client)); n != 6 || err != nil {
		t.Errorf("%d, %v", n, err)
	}
}

// A closedConn says what a stream that was closed does.
type closedConn struct{ net.Conn }

func (closedConn) Write([]byte) (int, error) { return 0, net.ErrClosed }
