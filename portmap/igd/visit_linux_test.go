package igd

import (
	"context"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// TestEndWhileItLooks has the end come while a place is looked at, so that another one has ended without an error by then.
func TestEndWhileItLooks(t *testing.T) {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		t.Fatal(err) // every Linux has it
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	o := testOptions(t, newDesk(), 1)
	looks := 0
	var s *Server
	o.Places = func() []portmap.Place {
		if looks++; looks == 2 {
			cancel()
			for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.port.get()).String())
				if err != nil {
					break // it does not listen any more
				}
				_ = c.Close()
				if time.Now().After(end) {
					t.Error("it still listens")
					break
				}
			}
			time.Sleep(50 * time.Millisecond) // and all the rest of it has ended, too
		}
		return []portmap.Place{{Interface: *lo, Addrs: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/8")}}}
	}
	s = New(o)
	_ = s.Run(ctx)
}
