package e2e

import (
	"fmt"
	"syscall"
	"testing"
)

const ownGateway = `
[gateway]
wan = "wan"
lan = "lan"
[gateway.portmap]
igd = %d
`

// TestOpenOwn is both sides of port mapping: the gateway is Fairlead, too.
func TestOpenOwn(t *testing.T) {
	for _, w := range []struct {
		name, protocol string
		igd            int
	}{{"pcp", "pcp", 1}, {"natpmp", "natpmp", 1}, {"igd1", "upnp", 1}, {"igd2", "upnp", 2}} {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, false)
			gw := up(t, a.gateway, fmt.Sprintf(ownGateway, w.igd))
			a.listen(t, 8080)
			o := a.open(t, homeNet+"10:8080", "--protocol", w.protocol)
			open := func(s publishedStatus) bool {
				return s.State == "open" && s.Protocol == w.protocol && s.Verified && has(s, "tcp/"+front+":8080") && s.Problem == ""
			}
			o.now("the port is open", open)
			if !a.reaches(t, front+":8080") {
				t.Error("the port is open and not reached from outside")
			}
			gw.proc.Signal(syscall.SIGTERM)
			if err := gw.proc.Wait(t.Context()); err != nil {
				t.Error(err)
			}
			gw.start()
			gw.wait("the port is open after a restart", func() bool { return a.reaches(t, front+":8080") })
			o.now("it is said to be open", open)
			o.stop()
			gw.wait("the port is closed", func() bool { return !a.reaches(t, front+":8080") })
		})
	}
}

// TestOpenOwnDouble has one of ours behind another, the inner one with a private address.
func TestOpenOwnDouble(t *testing.T) {
	for _, protocol := range []string{"pcp", "natpmp", "upnp"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			a := newAsker(t, true)
			up(t, a.outer, fmt.Sprintf(ownGateway, 1))
			up(t, a.gateway, fmt.Sprintf(ownGateway, 1))
			a.listen(t, 8080)
			o := a.open(t, homeNet+"10:8080", "--protocol", protocol)
			o.now("both have opened it", func(s publishedStatus) bool { return s.State == "open" && has(s, "tcp/"+front+":8080") })
			if !a.reaches(t, front+":8080") {
				t.Error("the port is open and not reached from outside")
			}
			o.stop()
		})
	}
}
