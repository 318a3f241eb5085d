package forward_test

import (
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestValidateHelper(t *testing.T) {
	for _, c := range []struct {
		listen, to, helper string
		edit               func(f *forward.Forward)
		want               string // in the error; "" is valid
	}{
		{"21", "192.168.1.10", "ftp", nil, ""},
		{"2121", "[fd00:1::10]:21", "ftp", nil, ""},
		{"tcp+udp/5060", "192.168.1.10", "sip", nil, ""},
		{"udp/69", "192.168.1.10", "tftp", nil, ""},
		{"6667", "192.168.1.10", "irc", nil, ""},
		{"1723", "192.168.1.10", "pptp", nil, ""},
		{"1720", "192.168.1.10", "h323", nil, ""},
		{"udp/1719", "192.168.1.10", "h323", nil, ""},
		{"udp/10080", "192.168.1.10", "amanda", nil, ""},

		{"69", "192.168.1.10", "tftp", nil, `helper: helper = "tftp" reads udp, and listen is tcp/69; write listen = "udp/69"`},
		{"tcp+udp/21", "192.168.1.10", "ftp", nil, `write listen = "tcp/21"`},
		{"10080", "192.168.1.10", "amanda", nil, `write listen = "udp/10080"`},
		{"udp/5060", "192.168.1.10", "pptp", nil, `reads tcp, and listen is udp/5060`},
		{"*", "192.168.1.10", "ftp", nil, `"*" has them all`},
		{"unix:/run/ftp", "192.168.1.10:21", "ftp", nil, "clients of a unix socket"},
		{"21", "unix:/run/ftp", "ftp", nil, "to: target unix:/run/ftp is a unix socket"},
		{"1080", "socks", "ftp", nil, "helper is for a fixed target"},
		{"[::]:1723", "[fd00:1::10]", "pptp", nil, "reads IPv4 alone"},
		{"6667", "[fd00:1::10]", "irc", nil, "reads IPv4 alone"},
		{"udp/69", "tftp.lan", "tftp", nil, `helper = "tftp" is the kernel's, but the target is a host name`},
		{"udp/69", "192.168.1.10", "tftp", func(f *forward.Forward) { f.Carry = forward.CarryRelay }, "the relay reads ftp alone"},
		{"21", "192.168.1.10", "ftp", func(f *forward.Forward) { f.Carry = forward.CarryRelay }, ""},
		{"21", "192.168.1.10", "ftp", func(f *forward.Forward) { f.Via = "vps" }, ""},
		{"21", "192.168.1.10", "ftp", func(f *forward.Forward) { f.At = "vps" }, "which node vps does not"},
		{"21", "192.168.1.10", "ftp", func(f *forward.Forward) { f.SendProxy = 2 }, "send_proxy: "},
		{"21", "192.168.1.10", "ftp", func(f *forward.Forward) { f.AcceptProxy = prefixes("10.0.0.0/8") }, "accept_proxy: "},

		{"21", "192.168.1.10", "ftp", passive(50000, 50100), ""},
		{"21", "192.168.1.10", "", passive(50000, 50100), "passive_ports is for helper"},
		{"udp/69", "192.168.1.10", "tftp", passive(50000, 50100), "passive_ports is for helper"},
		{"21", "192.168.1.10", "ftp", passive(20, 30), "from 1024 on"},
		{"21", "192.168.1.10", "ftp", passive(50000, 60000), "1024 are the most"},
		{"50021", "192.168.1.10:21", "ftp", passive(50000, 50100), "has a port of listen (50021) in it"},
		{"21", "192.168.1.10", "ftp", func(f *forward.Forward) {
			f.PassivePorts, f.Carry = forward.Range{First: 50000, Last: 50100}, forward.CarryKernel
		}, "carry: carry = \"kernel\" is impossible: passive_ports"},
	} {
		f := newForward(t, "a", c.listen, c.to)
		var err error
		if f.Helper, err = forward.ParseHelper(c.helper); err != nil {
			t.Fatal(err)
		}
		if c.edit != nil {
			c.edit(f)
		}
		err = f.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s %s %s: got %v, want %q", c.listen, c.to, c.helper, err, c.want)
		}
	}
}

func passive(first, last uint16) func(*forward.Forward) {
	return func(f *forward.Forward) { f.PassivePorts = forward.Range{First: first, Last: last} }
}

func TestHelperProtocols(t *testing.T) {
	for h := forward.HelperFTP; h <= forward.HelperAmanda; h++ {
		if h.Networks() == 0 || h.InRelay() != (h == forward.HelperFTP) {
			t.Errorf("%s reads %s", h, h.Networks())
		}
		for _, p := range h.Protocols() {
			if p.Port == 0 || p.Kernel == "" || !strings.HasPrefix(p.Module, "nf_conntrack_") {
				t.Errorf("%s: %+v", h, p)
			}
		}
	}
}
