package kernel

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestGatewayHelpers has helpers read what the LAN starts and nothing else, in a table of the test's own, and compares what
// the kernel lists with what it lists after "nft -f" of the same.
func TestGatewayHelpers(t *testing.T) {
	var all []forward.Helper
	for h := forward.HelperFTP; h <= forward.HelperAmanda; h++ {
		all = append(all, h)
	}
	objects, chains := gatewayHelpers(all, []string{"lan", "dmz0"})
	if len(objects) != 9 {
		t.Errorf("%d objects", len(objects))
	}
	lab := netlab.Gateway(t)
	const table = "helpers_test"
	b := newBatch(table)
	b.addTableCalled("a test")
	for _, o := range objects {
		b.addHelper(o, "")
	}
	for _, c := range chains {
		b.addChain(c)
	}
	for _, c := range chains {
		b.addRules(c)
	}
	if err := lab.Router.Do(func() error { return withNetlink(b.commit) }); err != nil {
		t.Fatal(err)
	}
	byNetlink := lab.Router.Run(t, "nft", "list", "ruleset")
	lab.Router.Run(t, "nft", "flush", "ruleset")
	lab.Router.Nft(t, tableText(table, objects, chains))
	if byText := lab.Router.Run(t, "nft", "list", "ruleset"); byText != byNetlink {
		t.Errorf("nft -f:\n%s\nnetlink:\n%s", byText, byNetlink)
	}

	lab.Client.Echo(t, "[::]:21")
	lab.Client.Echo(t, "[::]:22")
	lab.Client.Echo(t, "[::]:5060")
	lab.Server.Echo(t, "[::]:21")
	lab.Client.Route(t, "192.168.1.0/24", netlab.RouterWAN4)
	lab.Client.Route(t, "fd00:1::/64", netlab.RouterWAN6)
	for _, one := range []struct {
		by         *netlab.Node
		to, helper string
	}{
		{lab.Server, "tcp/203.0.113.10:21", "ftp"}, {lab.Server, "tcp/[2001:db8:1::10]:21", "ftp"},
		{lab.Server, "udp/203.0.113.10:5060", "sip"}, {lab.Peer, "tcp/203.0.113.10:5060", "sip"},
		{lab.Server, "udp/203.0.113.10:21", ""}, {lab.Server, "tcp/203.0.113.10:22", ""},
		{lab.Client, "tcp/192.168.1.10:21", ""}, {lab.Client, "tcp/[fd00:1::10]:21", ""}, // from the WAN
		{lab.Router, "tcp/203.0.113.10:21", ""}, // and from this host
	} {
		network, addr, _ := strings.Cut(one.to, "/")
		conn, err := one.by.Dial(t.Context(), network, addr)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "?")
		_, _ = conn.Read(make([]byte, 1))
		_, port, _ := net.SplitHostPort(addr)
		family := "ipv4"
		if strings.HasPrefix(addr, "[") {
			family = "ipv6"
		}
		entry := lab.Router.Run(t, "conntrack", "-L", "-f", family, "-p", network, "--dport", port)
		_ = conn.Close()
		if !strings.Contains(entry, "dport="+port) || strings.Contains(entry, "helper=") != (one.helper != "") || !strings.Contains(entry, "helper="+one.helper) && one.helper != "" {
			t.Errorf("%s from %s: expected helper %q in %q", one.to, one.by, one.helper, entry)
		}
		lab.Router.Run(t, "conntrack", "-F")
	}
	if o, c := gatewayHelpers(nil, []string{"lan"}); o != nil || c != nil {
		t.Error("no helpers have chains")
	}
}

func tableText(table string, objects []helperObject, chains []chain) string {
	var text strings.Builder
	out := bufio.NewWriter(&text)
	fmt.Fprintf(out, "table inet %s {\n\tcomment \"a test\"\n", table)
	for _, o := range objects {
		o.write(out)
	}
	for _, c := range chains {
		writeChain(out, c)
	}
	fmt.Fprintf(out, "}\n")
	_ = out.Flush()
	return text.String()
}
