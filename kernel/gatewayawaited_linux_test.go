package kernel_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestGatewayAdmits lets one client in at one port, of both families, until it is dismissed or its time is over.
func TestGatewayAdmits(t *testing.T) {
	h := newHome(t)
	h.gate.Echo(t, "[::]:45000")
	g := newGateway(t, h.gate, t.TempDir())
	admit := func(client, to string, lasts time.Duration) {
		t.Helper()
		on(t, h.gate, "admit", func() error {
			return g.Admit("ftp", netip.MustParseAddr(client), netip.MustParseAddrPort(to), lasts)
		})
	}
	dismiss := func(client, to string) {
		t.Helper()
		on(t, h.gate, "dismiss", func() error { return g.Dismiss(netip.MustParseAddr(client), netip.MustParseAddrPort(to)) })
	}
	admit(one4, at(gate4, 45000), time.Minute) // before there is a gateway: nothing is in the way, and nothing is written
	g.apply(h.router(), nil, nil)
	here4, here6 := tcp(gate4, 45000), tcp(gate6, 45000)
	closed(t, visit{by: h.one, to: here4}, visit{by: h.one, to: here6})
	admit(one4, at(gate4, 45000), time.Minute)
	admit("::ffff:"+one4, at(gate4, 45000), time.Minute) // once more, as a socket of both families has it
	admit(one6, at(gate6, 45000), time.Minute)
	admit(one4, at(gate6, 45000), time.Minute) // which nobody can do
	visit{by: h.one, to: here4, node: "gate", seen: "client"}.check(t)
	visit{by: h.one, to: here6, node: "gate", seen: "client"}.check(t)
	closed(t, visit{by: h.two, to: here4}, visit{by: h.two, to: here6}, visit{by: h.one, to: udp(gate4, 45000)}, visit{by: h.one, to: tcp("192.168.1.1", 45000)})
	if g.lost() {
		t.Error("taken for lost")
	}
	if add, del := g.drift(h.router(), nil, nil); add+del != 0 {
		t.Errorf("drift: %d, %d", add, del)
	}
	conn, err := h.one.Dial(t.Context(), "tcp", at(gate4, 45000))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say(t, conn, "x", "x")
	dismiss(one4, at(gate4, 45000))
	dismiss(one6, at(gate6, 45000))
	dismiss(one6, at(gate6, 45000))
	closed(t, visit{by: h.one, to: here4}, visit{by: h.one, to: here6})
	say(t, conn, "goes on", "goes on")
	admit(one4, at(gate4, 45000), 10*time.Millisecond)
	for gone := false; !gone; time.Sleep(5 * time.Millisecond) {
		gone = !strings.Contains(h.gate.Run(t, "nft", "list", "set", "inet", "fairlead_gateway", "awaited4_tcp"), one4)
	}
	closed(t, visit{by: h.one, to: here4})
}
