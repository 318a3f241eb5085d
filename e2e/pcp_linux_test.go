package e2e

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/portmap/pcp"
)

// A pcpClient is a socket of a host that speaks PCP.
type pcpClient struct {
	t    *testing.T
	conn net.Conn
	addr netip.Addr
}

// ask sends a request until it is answered.
func (c pcpClient) ask(r pcp.Request) pcp.Response {
	c.t.Helper()
	r.Client = c.addr
	for stale := true; stale; { // an answer to what was sent twice, or a notice
		_, stale = c.hear(10 * time.Millisecond)
	}
	for range 40 {
		if _, err := c.conn.Write(pcp.AppendRequest(nil, &r)); err == nil {
			if a, ok := c.hear(500 * time.Millisecond); ok && a.Opcode == r.Opcode && (a.Lifetime > 0) == (r.Lifetime > 0) {
				return a
			}
		}
		time.Sleep(50 * time.Millisecond) // nobody listens yet
	}
	c.t.Fatal("no answer")
	return pcp.Response{}
}

// hear is the next that comes.
func (c pcpClient) hear(wait time.Duration) (pcp.Response, bool) {
	b := make([]byte, 2000)
	_ = c.conn.SetReadDeadline(time.Now().Add(wait))
	n, err := c.conn.Read(b)
	if err != nil {
		return pcp.Response{}, false
	}
	r, err := pcp.ParseResponse(b[:n])
	return r, err == nil
}

// TestPCPIsTold has a client hear of what befalls its mapping, and not be troubled by a crash that took none.
func TestPCPIsTold(t *testing.T) {
	needs(t, "nft")
	h := newHome(t)
	d := up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\n[gateway.portmap]\n")
	conn, err := h.anna.DialFrom(t.Context(), "udp4", annaAddr, innerAddr+":5351")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	c := pcpClient{t, conn, netip.MustParseAddr(annaAddr)}
	request := pcp.Request{Opcode: pcp.Map, Lifetime: 3600, Mapping: pcp.Mapping{Nonce: [12]byte{7}, Protocol: pcp.ProtocolUDP, Internal: 3074}}
	if r := c.ask(request); r.Code != pcp.Success || r.External.String() != outerAddr+":3074" {
		t.Fatalf("%+v", r)
	}
	d.proc.WaitOutput(t, "all leases are stored")
	before := c.ask(pcp.Request{Opcode: pcp.Announce})
	d.proc.Kill()
	d.start()
	if after := c.ask(pcp.Request{Opcode: pcp.Announce}); after.Epoch < before.Epoch || before.Epoch == 0 {
		t.Errorf("the epoch was %d, and after a crash that took nothing it is %d", before.Epoch, after.Epoch)
	}
	if l := d.leases()["lease-192.168.1.20-udp-3074"]; l.State != "up" {
		t.Errorf("after a crash: %+v", l)
	}
	gone := func() {
		t.Helper()
		waitFor(t, "the client is told that its mapping is gone", func() bool {
			r, ok := c.hear(time.Second)
			return ok && r.Opcode == pcp.Map && r.Lifetime == 0 && r.Code == pcp.Success && r.Nonce == [12]byte{7} && r.Internal == 3074
		})
	}
	c.ask(request) // and so it is known where the client listens
	d.run("rm", "lease-192.168.1.20-udp-3074")
	gone()
	c.ask(request)
	h.router.Run(t, "ip", "addr", "del", outerAddr+"/24", "dev", "wan")
	h.router.Run(t, "ip", "addr", "add", "198.41.0.5/24", "dev", "wan")
	waitFor(t, "the client is told of another address", func() bool {
		r, ok := c.hear(time.Second)
		return ok && r.Opcode == pcp.Map && r.Lifetime > 0 && r.External.Addr().String() == "198.41.0.5"
	})
	c.ask(request)
	d.run("leases", "deny", annaAddr)
	gone()
}
