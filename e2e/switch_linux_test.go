package e2e

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestGatewaySwitches gives a gateway other settings again and again while clients ask it for ports, and sees that nothing is left.
func TestGatewaySwitches(t *testing.T) {
	needs(t, "upnpc", "natpmpc", "nft")
	h := newHome(t)
	h.anna.Echo(t, ":5000")
	h.anna.Echo(t, ":8080")
	look := func() string {
		return h.router.Run(t, "sh", "-c", "nft list ruleset; sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding net.ipv6.conf.wan.accept_ra net.ipv6.conf.lan.accept_ra")
	}
	before := look()
	fwd := "\n[forward.web]\nlisten = \"80\"\nto = \"" + annaAddr + ":8080\"\ncarry=\"relay\"\n"
	configs := []string{
		homeConfig,
		"[gateway]\nwan=\"wan\"\nlan=\"lan\"\n[gateway.portmap]\nprotocols=\"upnp\"\n" + fwd,
		"[gateway]\nwan=\"wan\"\nlan=\"lan\"\nendpoint_independent=true\n[gateway.portmap]\n" + fwd,
		fwd,
		"[gateway]\nwan=\"lan\"\nlan=\"wan\"\nprotect=false\n[gateway.portmap]\nask=true\n" + fwd,
		"[gateway]\nwan=\"wan\"\nlan=[\"lan\",\"dmz\"]\n[gateway.portmap]\nigd=2\nport=5000\n" + fwd,
		"[gateway]\nwan=\"wan\"\nlan=\"lan\"\nsnat=\"" + outerAddr + "\"\n[gateway.portmap]\n" + fwd,
		"[gateway]\nwan=\"nosuch*\"\nlan=\"lan\"\nhelpers=[\"ftp\",\"sip\"]\n[gateway.portmap]\nprotocols=[\"pcp\"]\n" + fwd,
		"[gateway]\nwan=\"wan\"\nlan=\"lan\"\n[gateway.portmap]\nenabled=false\n" + fwd,
	}
	d := up(t, h.router, configs[0])
	var flood sync.WaitGroup
	stop := make(chan struct{})
	for i, cmd := range []string{
		"natpmpc -g %[1]s -a %[2]d %[2]d udp 600", "upnpc -a " + annaAddr + " %[2]d %[2]d tcp 600", "upnpc -l", "natpmpc -g %[1]s -a %[2]d %[2]d tcp 600",
	} {
		flood.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				c := cmd
				if strings.Contains(c, "%") {
					c = fmt.Sprintf(cmd, innerAddr, 3000+i*1000+n%60)
				}
				_, _ = h.anna.Command(t.Context(), "timeout", append([]string{"2"}, strings.Fields(c)...)...).CombinedOutput()
			}
		})
	}
	for i := range configs {
		d.write(configs[(i*5)%len(configs)])
		if out, err := d.try("apply", "-c", d.file()); err != nil {
			t.Errorf("%d: %v %s", i, err, out)
		}
		time.Sleep(time.Duration(i%3) * 300 * time.Millisecond)
		if out, err := d.try("status"); err != nil || !strings.Contains(out, "web") {
			t.Fatalf("%d: %v %s", i, err, out)
		}
	}
	close(stop)
	flood.Wait()
	d.run("down")
	if after := look(); before != after {
		t.Errorf("before:\n%s\nafter down:\n%s", before, after)
	}
	for _, line := range strings.Split(d.proc.Output(), "\n") {
		if strings.Contains(line, "level=ERROR") || strings.Contains(line, "panic") {
			t.Error(line)
		}
	}
}
