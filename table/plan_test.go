package table

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestPlan(t *testing.T) {
	oneLeg := router
	oneLeg.Addrs = router.Addrs[:1]
	still := router
	still.Routes4, still.Routes6 = false, false
	unusable := kernel.Facts{Unusable: "the kernel carrier needs CAP_NET_ADMIN"}
	to := func(s ...string) config.Strings { return s }
	const (
		k, r   = forward.CarryKernel, forward.CarryRelay
		only4  = "; the kernel carries IPv4 clients only, to an IPv4 target"
		seen   = "the target sees the client's address; clients on lan itself are rewritten (hairpin)"
		behind = "source rewritten for clients that come in by wan, so that replies come back: the target is reached by the same interface"
		kept   = "the target sees the client's address (source = keep), so its way back to clients has to lead through this host"
		no4    = "this host does not forward packets (net.ipv4.ip_forward is 0)"
		no6    = "this host does not forward packets (net.ipv6.conf.all.forwarding is 0)"
	)
	tests := []struct {
		name      string
		spec      config.Spec
		facts     kernel.Facts
		carry     forward.Carry
		why, note string
		err       string
	}{
		{"gateway", config.Spec{Listen: "80", To: to("192.168.1.10:8080")}, router, k, "plain host to host", seen + only4, ""},
		{"one interface", config.Spec{Listen: "80", To: to("203.0.113.9:80")}, oneLeg, k, "plain host to host", behind + only4, ""},
		{"beyond the default route", config.Spec{Listen: "203.0.113.5:80", To: to("8.8.8.8:80")}, router, k, "plain host to host", behind, ""},
		{"no route known", config.Spec{Listen: "203.0.113.5:80", To: to("10.0.0.1:80")}, kernel.Facts{Routes4: true}, k, "plain host to host", "the target sees the client's address", ""},
		{"in by lan", config.Spec{Listen: "203.0.113.5:80", To: to("192.168.1.10:80"), Interface: "lan"}, router, k, "plain host to host", "source rewritten for clients that come in by lan, so that replies come back: the target is reached by the same interface", ""},
		{"in by wan", config.Spec{Listen: "203.0.113.5:80", To: to("192.168.1.10:80"), Interface: "wan"}, router, k, "plain host to host", "the target sees the client's address", ""},
		{"rewrite", config.Spec{Listen: "203.0.113.5:80", To: to("192.168.1.10:80"), Source: "rewrite"}, router, k, "plain host to host", "the target sees an address of this host (source = rewrite)", ""},
		{"keep", config.Spec{Listen: "203.0.113.5:80", To: to("192.168.1.10:80"), Source: "keep"}, router, k, "plain host to host", "the target sees the client's address (source = keep)", ""},
		{"v6", config.Spec{Listen: "80", To: to("[2001:db8::1]:80")}, router, k, "plain host to host", behind + "; the kernel carries IPv6 clients only, to an IPv6 target", ""},
		{"this host", config.Spec{Listen: "443", To: to(":8443")}, still, k, "plain redirect on this host", "the program has to listen on the addresses that clients use, not on 127.0.0.1 alone", ""},
		{"own address", config.Spec{Listen: "203.0.113.5:443", To: to("192.168.1.1:8443")}, still, k, "plain redirect on this host", "", ""},
		{"dmz", config.Spec{Listen: "*", To: to("192.168.1.50")}, router, k, "plain host to host", seen + only4, ""},

		{"round-robin", config.Spec{Listen: "0.0.0.0:80", To: to("192.168.1.10:80", "192.168.1.11:80"), Balance: "round-robin"}, router, k, "plain host to host", seen + "; " + keepsTurn, ""},
		{"source, by two ways", config.Spec{Listen: "0.0.0.0:80", To: to("192.168.1.10", "203.0.113.9"), Balance: "source"}, router, k, "plain host to host", seen + "; " + behind + "; " + keepsTurn, ""},
		{"own addresses by source", config.Spec{Listen: "0.0.0.0:80", To: to("192.168.1.1:81", "192.168.1.1:82"), Balance: "source"}, still, k, "plain redirect on this host", keepsTurn, ""},

		{"one of two here", config.Spec{Listen: "80", To: to("192.168.1.1:81", "192.168.1.10:81"), Balance: "source"}, still, r, no4, "", ""},
		{"failover", config.Spec{Listen: "80", To: to("192.168.1.10", "192.168.1.11")}, router, r, `balance = "failover" has to see which target answers`, "", ""},
		{"asked for", config.Spec{Listen: "80", To: to("192.168.1.10:80"), Carry: "relay"}, router, r, "asked for by carry", "", ""},
		{"name", config.Spec{Listen: "80", To: to("app:80")}, router, r, "the target is a host name, looked up for each session", "", ""},
		{"loopback", config.Spec{Listen: "80", To: to("127.0.0.1:8080")}, router, r, "the target is on loopback, where the kernel does not route", "", ""},
		{"unusable", config.Spec{Listen: "80", To: to("192.168.1.10:80")}, unusable, r, unusable.Unusable, "", ""},
		{"no routing", config.Spec{Listen: "80", To: to("192.168.1.10:80")}, still, r, no4, "", ""},
		{"no routing 6", config.Spec{Listen: "80", To: to("[2001:db8::1]:80")}, still, r, no6, "", ""},
		{"v4 to v6", config.Spec{Listen: "0.0.0.0:80", To: to("[2001:db8::1]:80")}, router, r, noTranslation, "", ""},
		{"clients of the other family", config.Spec{Listen: "80", To: to("192.168.1.10:80"), From: to("2001:db8::/32")}, router, r, noTranslation, "", ""},

		{"helper", config.Spec{Listen: "0.0.0.0:21", To: to("192.168.1.10"), Helper: "ftp"}, router, k, "plain host to host", seen, ""},
		{"helper in the relay", config.Spec{Listen: "21", To: to("192.168.1.10"), Helper: "ftp"}, still, r, no4, "", ""},
		{"passive ports", config.Spec{Listen: "21", To: to("192.168.1.10"), Helper: "ftp", PassivePorts: "50000-50100"}, router, r, "passive_ports are listened at by the relay", "", ""},
		{"helper or nothing", config.Spec{Listen: "udp/69", To: to("192.168.1.10"), Helper: "tftp"}, still, 0, no4, "", `helper = "tftp" needs the kernel to carry it, but ` + no4},
		{"pinhole", config.Spec{Listen: "[2001:db8:9::1]:80", To: to("2001:db8:9::1")}, router, k, "pinhole: let through untranslated", "the target sees the client's address; its answers have to lead through this host", ""},
		{"pinhole of this host", config.Spec{Listen: "203.0.113.5:80", To: to("203.0.113.5:80")}, router, 0, "", "", "listen and to are both 203.0.113.5:80, an address of this host: the forward would lead to itself"},
		{"pinhole without routing", config.Spec{Listen: "[2001:db8:9::1]:80", To: to("2001:db8:9::1")}, still, 0, no6, "", "a pinhole needs the kernel to carry it, but " + no6},
		{"kernel or nothing", config.Spec{Listen: "80", To: to("192.168.1.10:80"), Carry: "kernel"}, still, 0, no4, "", `carry = "kernel" needs the kernel to carry it, but ` + no4},
		{"keep or nothing", config.Spec{Listen: "80", To: to("192.168.1.10:80"), Source: "keep"}, unusable, 0, unusable.Unusable, "", `source = "keep" is impossible here: ` + unusable.Unusable},
		{"keep by the relay", config.Spec{Listen: "80", To: to("192.168.1.10:80"), Source: "keep", MaxConnections: 9}, router, r, "max_connections is counted by the relay", kept + "; IPv6 clients are refused, since the address could not be kept", ""},
		{"keep without routing", config.Spec{Listen: "0.0.0.0:80", To: to("192.168.1.10:80"), Source: "keep"}, still, r, no4, kept, ""},
		{"keep towards own address", config.Spec{Listen: "80", To: to("192.168.1.1:80"), Source: "keep", MaxConnections: 9}, router, 0, "max_connections is counted by the relay", "", `source = "keep" is impossible here: target 192.168.1.1:80 is an address of this host; its answers to a client's address would leave past the relay`},
		{"keep of the other family", config.Spec{Listen: "80", To: to("192.168.1.10:80"), From: to("2001:db8::/32"), Source: "keep"}, router, 0, noTranslation, "", `source = "keep" is impossible here: no client of the same IP family as target 192.168.1.10:80 comes in`},
		{"dmz or nothing", config.Spec{Listen: "*", To: to("192.168.1.10")}, unusable, 0, unusable.Unusable, "", `listen = "*" needs the kernel to carry it, but ` + unusable.Unusable},
	}
	for _, test := range tests {
		d := Plan(spec(t, "x", forward.OriginFile, test.spec), test.facts)
		err := ""
		if d.Err != nil {
			err = d.Err.Error()
		}
		if d.Carry != test.carry || d.Why != test.why || d.Note != test.note || err != test.err {
			t.Errorf("%s: %v, %q, %q, %q\nwant %v, %q, %q, %q", test.name, d.Carry, d.Why, d.Note, err, test.carry, test.why, test.note, test.err)
		}
	}
}
