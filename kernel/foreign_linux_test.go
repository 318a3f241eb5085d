package kernel_test

import (
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// TestForeignChanges has another program change nftables between changes of the carrier and of the gateway, which share a ledger: what
// they have is right after each, whatever was done, and damage that a change does not happen to meet is noticed all the same.
func TestForeignChanges(t *testing.T) {
	lab := netlab.Gateway(t)
	ledger := new(kernel.Ledger)
	c := carrier{kernel.New(kernel.Options{Ledger: ledger, Log: testLog(t)}), t, lab.Host}
	g := gateway{kernel.NewGateway(kernel.GatewayOptions{Ledger: ledger, StateDir: t.TempDir(), Log: testLog(t)}), t, lab.Host}
	t.Cleanup(func() { _, _ = c.Close(), g.Close() })
	spec := &forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, Masquerade: true, Protect: true}
	lists := [][]*forward.Forward{
		fwds(t, "a 80 192.168.1.10:8080", "b 81 192.168.1.10:8080", "hole tcp/[2001:db8::5]:80 [2001:db8::5]:80"),
		fwds(t, "a 80 192.168.1.20:8080", "c 82 192.168.1.10:8080", "hole tcp/[2001:db8::6]:80 [2001:db8::6]:80"),
	}
	round := 0
	apply := func() {
		t.Helper()
		round++
		want := lists[round%2]
		g.apply(spec, nil, want)
		c.apply(want)
		_ = lab.Host.Do(func() error {
			if add, del, err := c.Drift(want); add+del > 0 || err != nil {
				t.Errorf("round %d: the kernel lacks %d elements and has %d too many: %v", round, add, del, err)
			}
			if add, del, err := g.Drift(spec, nil, want); add+del > 0 || err != nil {
				t.Errorf("round %d: the gateway lacks %d elements and has %d too many: %v", round, add, del, err)
			}
			return nil
		})
	}
	lost := func() (carrier, gateway bool) {
		_ = lab.Host.Do(func() error { carrier, gateway = c.Lost(), g.Lost(); return nil })
		return carrier, gateway
	}
	apply()
	apply()
	for _, foreign := range []string{"add table inet theirs", "delete table inet fairlead", "delete table inet theirs", "delete table inet " + kernel.DefaultGatewayTable,
		"delete table inet fairlead; delete table inet " + kernel.DefaultGatewayTable, "flush ruleset"} {
		lab.Host.Run(t, "nft", foreign)
		apply()
		apply()
		if a, b := lost(); a || b {
			t.Errorf("%s: lost: %v, %v", foreign, a, b)
		}
	}
	for _, damage := range []string{"flush chain inet fairlead local", "flush chain inet " + kernel.DefaultGatewayTable + " forward"} {
		lab.Host.Run(t, "nft", damage)
		g.apply(spec, nil, lists[(round+1)%2]) // which do not meet it
		c.apply(lists[(round+1)%2])
		if a, b := lost(); a == b {
			t.Errorf("%s, and then a change: lost: %v, %v", damage, a, b)
		}
		apply()
		if a, b := lost(); a || b {
			t.Errorf("%s: not mended: %v, %v", damage, a, b)
		}
	}
}

// TestInterfacesComeAndGo has the set of interfaces follow those of the host, with changes of forwards in between and without.
func TestInterfacesComeAndGo(t *testing.T) {
	lab := netlab.Gateway(t)
	c := newCarrier(t, lab.Host)
	one, two := fwds(t, "a 80 192.168.1.10:8080"), fwds(t, "a 80 192.168.1.20:8080")
	has := func(name string) bool {
		return strings.Contains(lab.Host.Run(t, "nft", "list", "table", "inet", "fairlead"), `"`+name+`" . "`+name+`"`)
	}
	c.apply(one)
	if !has("wan") {
		t.Fatal("an interface is missed: this test tests nothing")
	}
	for i, step := range []struct{ change, comes, goes string }{
		{"link add d0 type veth peer name p0", "d0", "d1"},
		{"link set d0 name d1", "d1", "d0"},
		{"link set d1 up", "d1", "d0"},
		{"link del d1", "wan", "d1"},
		{"link add d0 type veth peer name p0", "d0", "d1"},
	} {
		lab.Host.Run(t, "ip", strings.Fields(step.change)...)
		if i%2 == 0 {
			c.apply(one)
		} else {
			c.apply(two)
		}
		c.apply(two)
		if !has(step.comes) || has(step.goes) {
			t.Errorf("%s: %s is there: %v, %s: %v", step.change, step.comes, has(step.comes), step.goes, has(step.goes))
		}
	}
}
