package kernel_test

import (
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestLost damages the table from within: the carrier notices, and the next Apply puts it right.
func TestLost(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	c := newCarrier(t, lab.Host)
	want := fwds(t, "web 80 192.168.1.10:8080", "pair 81 192.168.1.10:8080,192.168.1.20:8080 balance=round-robin")
	c.apply(want)
	lost := func() (lost bool) {
		_ = lab.Host.Do(func() error { lost = c.Lost(); return nil })
		return lost
	}
	lab.Host.Run(t, "nft", "add", "table", "inet", "theirs")
	if lost() {
		t.Error("another program's table is taken for a loss")
	}
	for _, damage := range []string{"flush table inet fairlead", "flush map inet fairlead dnat4_tcp_port", "flush chain inet fairlead local",
		"flush set inet fairlead members4_tcp_port_turns2", "flush map inet fairlead dnat4_tcp_port_turns2", "delete table inet fairlead"} {
		lab.Host.Run(t, "nft", damage)
		if !lost() {
			t.Errorf("%s: not noticed", damage)
		}
		c.apply(want)
		visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":80", node: "server"}.check(t)
		if lost() {
			t.Errorf("%s: not mended", damage)
		}
	}
}

// TestSquatter has an ordinary user take the name that guards the table: it keeps nobody from it.
func TestSquatter(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	p := lab.Host.Start(t, "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "socat", "-d", "-d", "ABSTRACT-LISTEN:fairlead/fairlead", "-")
	p.WaitOutput(t, "listening on")
	c := newCarrier(t, lab.Host)
	c.apply(fwds(t, "web 80 192.168.1.10:8080"))
	visit{by: lab.Client, to: "tcp/" + netlab.RouterWAN4 + ":80", node: "server"}.check(t)
}
