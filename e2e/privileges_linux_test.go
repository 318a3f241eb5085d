package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// asService starts the program on a host with what its unit gives it: a user of its own and two capabilities.
func asService(t *testing.T, n *netlab.Node, args ...string) *netlab.Process {
	t.Helper()
	const caps = "+net_admin,+net_bind_service"
	return n.Start(t, "setpriv", append([]string{fmt.Sprintf("--reuid=%d", nobody), fmt.Sprintf("--regid=%d", nobody), "--clear-groups",
		"--inh-caps=-all," + caps, "--ambient-caps=-all," + caps, "--bounding-set=-all," + caps, "--no-new-privs", binary}, args...)...)
}

// TestGatewayAsService has a daemon that is not root make a gateway of its host, grant ports by all three protocols, and leave nothing.
func TestGatewayAsService(t *testing.T) {
	needs(t, "setpriv", "upnpc", "natpmpc", "nft")
	h := newHome(t)
	dir := t.TempDir()
	for _, d := range []string{filepath.Dir(dir), dir} {
		if err := os.Chmod(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	h.anna.Echo(t, ":5000")
	look := func() string {
		return h.router.Run(t, "sh", "-c", "nft list ruleset; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.wan.accept_ra")
	}
	before := look()
	d := &daemon{t: t, node: h.router, dir: dir}
	d.write(homeConfig)
	d.proc = asService(t, h.router, d.args("up", "-c", d.file())...)
	d.wait("it serves", func() bool {
		out, err := d.try("status")
		return err == nil && !strings.Contains(out, "not carried yet")
	})
	d.expect("web kernel up", "relayed relay up", "hole kernel up", "dmz kernel up")
	if got := look(); !strings.Contains(got, "net.ipv4.ip_forward = 1") || !strings.Contains(got, "fairlead_gateway") {
		t.Errorf("it is no gateway:\n%s", got)
	}
	d.wait("NAT-PMP answers", func() bool {
		out, err := h.anna.Command(t.Context(), "natpmpc", "-g", innerAddr, "-a", "5000", "5000", "udp", "600").CombinedOutput()
		return err == nil && strings.Contains(string(out), "Mapped public port 5000")
	})
	d.wait("UPnP answers", func() bool {
		out, err := h.anna.Command(t.Context(), "upnpc", "-a", annaAddr, "5000", "5000", "tcp", "600").CombinedOutput()
		return err == nil && strings.Contains(string(out), "is redirected to internal")
	})
	for _, network := range []string{"udp", "tcp"} {
		if _, err := h.wan.Call(t.Context(), network, outerAddr+":5000"); err != nil {
			t.Errorf("%s: %v", network, err)
		}
	}
	if out := d.run("leases"); !strings.Contains(out, "lease-"+annaAddr+"-udp-5000") {
		t.Errorf("leases:\n%s", out)
	}
	d.run("down")
	if after := look(); before != after {
		t.Errorf("before:\n%s\nafter down:\n%s", before, after)
	}
}
