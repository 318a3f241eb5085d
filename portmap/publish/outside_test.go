package publish

import (
	"net/netip"
	"strings"
	"testing"
)

// TestSeen compares what gateways say with what somebody outside has seen.
func TestSeen(t *testing.T) {
	at := netip.MustParseAddr
	gateway := func(level int, local, external string) GatewayReport {
		g := GatewayReport{Addr: at("192.168.1.1"), Interface: "eth0", Local: at(local), Level: level, Default: true,
			Protocols: []ProtocolReport{{Protocol: "natpmp"}}}
		if level > 0 {
			g.Addr = at("10.7.7.1")
		}
		if external != "" {
			g.External = at(external)
		}
		return g
	}
	const host = "192.168.1.20"
	elsewhere := gateway(0, "192.168.9.20", "198.41.0.99")
	elsewhere.Interface = "eth1"
	for _, c := range []struct {
		name     string
		gateways []GatewayReport
		local    string
		public   string
		want     NAT
		kind     Kind
		says     string // of the problem
	}{
		{"it agrees", []GatewayReport{gateway(0, host, "198.41.0.4")}, host, "198.41.0.4", NATSingle, KindNone, ""},
		{"another", []GatewayReport{gateway(0, host, "198.41.0.4")}, host, "198.41.0.7", NATDouble, KindDoubleNAT, "is 198.41.0.7 to a server outside"},
		{"two that agree", []GatewayReport{gateway(0, host, "10.7.7.2"), gateway(1, "10.7.7.2", "198.41.0.4")}, host, "198.41.0.4", NATDouble, KindNone, ""},
		{"two and a third", []GatewayReport{gateway(0, host, "10.7.7.2"), gateway(1, "10.7.7.2", "198.41.0.4")}, host, "198.41.0.7", NATDouble, KindDoubleNAT,
			"the gateway 10.7.7.1 says that it has the address 198.41.0.4"},
		{"double, as was known", []GatewayReport{gateway(0, host, "10.7.7.2")}, host, "198.41.0.4", NATDouble, KindDoubleNAT, "; to a server outside this host is 198.41.0.4"},
		{"CGNAT, as was known", []GatewayReport{gateway(0, host, "100.64.7.2")}, host, "198.41.0.4", NATCGNAT, KindCGNAT, "; to a server outside this host is 198.41.0.4"},
		{"an address of nobody", []GatewayReport{gateway(0, host, "192.0.2.2")}, host, "198.41.0.4", NATDouble, KindDoubleNAT, "cannot be reached from outside, and this host is 198.41.0.4"},
		{"it says nothing", []GatewayReport{gateway(0, host, "")}, host, "198.41.0.4", NATUnknown, KindNoExternal, ""},
		{"by another interface", []GatewayReport{gateway(0, host, "198.41.0.4"), elsewhere}, "192.168.9.20", "198.41.0.99", NATSingle, KindNone, ""},
		{"no NAT", []GatewayReport{gateway(0, "198.41.0.20", "")}, "198.41.0.20", "198.41.0.20", NATNone, KindNone, ""},
		{"a public address that is none", []GatewayReport{gateway(0, "11.0.0.20", "")}, "11.0.0.20", "198.41.0.4", NATSingle, KindDoubleNAT, "this host has the address 11.0.0.20"},
		{"the server is inside", []GatewayReport{gateway(0, host, "198.41.0.4")}, host, "10.7.7.2", NATSingle, KindNone, ""},
		{"IPv6", []GatewayReport{gateway(0, host, "198.41.0.4")}, "2001:4860::1", "2001:4860::2", NATSingle, KindNone, ""},
	} {
		r := Report{Gateways: c.gateways}
		r.judge(&survey{})
		r.Seen(at(c.local), at(c.public))
		kind, text := KindNone, ""
		if r.Problem != nil {
			kind, text = r.Problem.Kind, r.Problem.Text
		}
		if r.NAT != c.want || kind != c.kind || !strings.Contains(text, c.says) {
			t.Errorf("%s: %s, %q: %s; want %s, %q: %s", c.name, r.NAT, kind, text, c.want, c.kind, c.says)
		}
	}
}
