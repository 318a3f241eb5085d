package kernel_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// TestGatewayLost damages the table and the settings: the gateway notices, and the next Apply puts it right.
func TestGatewayLost(t *testing.T) {
	h := newHome(t)
	h.one.Echo(t, "[::]:8080")
	g := newGateway(t, h.gate, t.TempDir())
	spec := h.router()
	spec.Independent = true
	want := fwds(t, "a udp/4000 "+ann4+":3074 outbound", "r 90 "+ann4+":80 hold")
	g.apply(spec, nil, want)
	out := visit{by: h.ann, to: tcp(one4, 8080), node: "one", seen: "host"}
	out.check(t) // and something is learned
	h.gate.Run(t, "nft", "add", "table", "inet", "theirs")
	if g.lost() {
		t.Error("another program's table is taken for a loss")
	}
	for _, damage := range []string{"nft flush table inet fairlead_gateway", "nft flush map inet fairlead_gateway outbound4_udp", "nft flush chain inet fairlead_gateway closed",
		"nft flush set inet fairlead_gateway hold4_tcp_port", "nft delete table inet fairlead_gateway", "nft flush ruleset", "sysctl -qw net.ipv4.ip_forward=0"} {
		words := strings.Fields(damage)
		h.gate.Run(t, words[0], words[1:]...)
		if !g.lost() {
			t.Errorf("%s: not noticed", damage)
		}
		g.apply(spec, nil, want)
		out.check(t)
		if g.lost() {
			t.Errorf("%s: not mended", damage)
		}
	}
}

// TestGatewayAdopts replaces the gateway as a restarted daemon would: the table stays, what changed meanwhile is changed, and
// sessions go on.
func TestGatewayAdopts(t *testing.T) {
	h := newHome(t)
	h.one.Echo(t, "[::]:8080")
	dir := t.TempDir()
	first := newGateway(t, h.gate, dir)
	first.apply(h.router(), nil, fwds(t, "a udp/4000 "+ann4+":3074 outbound", "b udp/4001 "+bob4+":3074 outbound", "r 90 "+ann4+":80 hold"))
	conn, err := h.ann.Dial(t.Context(), "tcp", at(one4, 8080))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	say(t, conn, "x", "x")
	before := h.gate.Run(t, "nft", "-a", "list", "tables")
	second := newGateway(t, h.gate, dir)
	_ = h.gate.Do(func() error {
		var taken *kernel.TakenError
		if err := second.Apply(context.Background(), h.router(), nil, forward.List{}); !errors.As(err, &taken) {
			t.Errorf("while another keeps the table: %v", err)
		}
		return first.Close()
	})
	second.apply(h.router(), listens("22"), fwds(t, "a udp/4002 "+ann4+":3074 outbound"))
	if now := h.gate.Run(t, "nft", "-a", "list", "tables"); now != before {
		t.Errorf("the table was made anew: %s, then %s", before, now)
	}
	if got := newPhone(t, h.ann, at(ann4, 3074)).ask(at(one4, 8080)); got.String() != at(gate4, 4002) {
		t.Errorf("left from %s", got)
	}
	say(t, conn, "still", "still")
	list := h.gate.Run(t, "nft", "list", "table", "inet", "fairlead_gateway")
	if strings.Contains(list, bob4) || strings.Contains(list, "hold4") || !strings.Contains(list, "tcp dport 22 accept") {
		t.Errorf("left behind, or missing:\n%s", list)
	}
	if add, del := second.drift(h.router(), listens("22"), fwds(t, "a udp/4002 "+ann4+":3074 outbound")); add+del != 0 {
		t.Errorf("the kernel lacks %d elements and has %d too many", add, del)
	}
	_ = h.gate.Do(second.Clear)
	if out := h.gate.Run(t, "nft", "list", "ruleset"); strings.Contains(out, "fairlead") {
		t.Errorf("left behind: %s", out)
	}
}

// drift is what a gateway that forgot everything would add and delete.
func (g gateway) drift(spec *forward.Gateway, open []forward.Listen, forwards []*forward.Forward) (add, del int) {
	g.t.Helper()
	err := g.host.Do(func() (err error) { add, del, err = g.Drift(spec, open, forwards); return err })
	if err != nil {
		g.t.Error(err)
	}
	return add, del
}

// TestGatewayChanges applies list after list of leases that share ports, and compares the kernel with each.
func TestGatewayChanges(t *testing.T) {
	h := newHome(t)
	g := newGateway(t, h.gate, "")
	spec := h.router()
	spec.Independent = true
	var list []*forward.Forward
	for round := range 40 {
		name := fmt.Sprintf("l%02d", round%15)
		var next []*forward.Forward
		for _, f := range list {
			if f.Name != name {
				next = append(next, f)
			}
		}
		if round%4 != 3 {
			hold := []string{"", " hold"}[round%2]
			next = and(next, fwd(t, fmt.Sprintf("%s tcp+udp/%d %s:%d outbound%s", name, 4000+round%15, ann4, 3074+round%3, hold)))
		}
		list = next
		g.apply(spec, nil, list)
		if add, del := g.drift(spec, nil, list); add+del != 0 {
			t.Fatalf("round %d: the kernel lacks %d elements and has %d too many", round, add, del)
		}
		if g.lost() {
			t.Fatalf("round %d: taken for lost", round)
		}
	}
	g.apply(spec, nil, nil)
	if add, del := g.drift(spec, nil, nil); add+del != 0 {
		t.Errorf("at the end: %d, %d", add, del)
	}
}

// TestGatewaySettings has the kernel's settings given back by whoever clears up: the same process, or one after a kill.
func TestGatewaySettings(t *testing.T) {
	h := newHome(t)
	keys := []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding", "net.ipv6.conf.wan.accept_ra", "net.ipv6.conf.lan.accept_ra"}
	values := func() (out string) {
		for _, k := range keys {
			out += sysctl(t, h.gate, k)
		}
		return out
	}
	h.gate.Sysctl(t, "net.ipv6.conf.wan.accept_ra", "1")
	h.gate.Sysctl(t, "net.ipv6.conf.lan.accept_ra", "1")
	before := values()
	if before != "0011" {
		t.Fatalf("the lab's settings are %s", before)
	}
	dir := t.TempDir()
	for _, end := range []string{"clear", "switched off", "killed"} {
		g := newGateway(t, h.gate, dir)
		g.apply(h.router(), nil, nil)
		if got := values(); got != "1121" {
			t.Errorf("as a gateway: %s", got)
		}
		switch end {
		case "switched off":
			g.apply(nil, nil, nil)
		case "killed":
			_ = h.gate.Do(g.Close)
			next := newGateway(t, h.gate, dir)
			next.apply(h.router(), nil, nil)
			_ = h.gate.Do(next.Close)
			last := newGateway(t, h.gate, dir)
			on(t, h.gate, "clear", func() error { return errors.Join(last.Clear(), last.Close()) })
		default:
			on(t, h.gate, "clear", g.Clear)
		}
		if got := values(); got != before {
			t.Errorf("%s: left with %s", end, got)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", end, left)
		}
		_ = h.gate.Do(g.Close)
	}
	// What was so before is nobody's to give back, and what somebody else has changed since stays.
	h.gate.Forwarding(t)
	g := newGateway(t, h.gate, dir)
	g.apply(h.router(), nil, nil)
	h.gate.Sysctl(t, "net.ipv6.conf.wan.accept_ra", "0")
	on(t, h.gate, "clear", func() error { return errors.Join(g.Clear(), g.Close()) })
	if got := values(); got != "1101" {
		t.Errorf("of a router: left with %s", got)
	}
	// A note of another boot says nothing about this one.
	note := "boot 0-0\nnet/ipv4/ip_forward 0 1\n"
	if err := os.WriteFile(filepath.Join(dir, "gateway-settings"), []byte(note), 0o600); err != nil {
		t.Fatal(err)
	}
	on(t, h.gate, "clear", newGateway(t, h.gate, dir).Clear)
	if got := values(); got != "1101" {
		t.Errorf("after another boot's note: %s", got)
	}
}

// TestGatewayHoldsNothing counts descriptors over many lives. It runs before the tests that run together.
func TestGatewayHoldsNothing(t *testing.T) {
	host := netlab.New(t).Node("host")
	held := func() int {
		list, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	spec := &forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, Masquerade: true, Protect: true}
	var before int
	for life := range 12 {
		g := kernel.NewGateway(kernel.GatewayOptions{StateDir: t.TempDir()})
		on(t, host, "live", func() error {
			return errors.Join(g.Apply(context.Background(), spec, nil, forward.List{}), g.Clear(), g.Close())
		})
		if life == 1 {
			before = held()
		}
	}
	if now := held(); now > before {
		t.Errorf("%d descriptors, and %d after ten more lives", before, now)
	}
}

// TestGatewayWithoutInterfaces has a WAN that is not up yet.
func TestGatewayWithoutInterfaces(t *testing.T) {
	host := netlab.New(t).Node("host")
	g := newGateway(t, host, "")
	g.apply(&forward.Gateway{WAN: []string{"ppp*", "later"}, LAN: []string{"br0"}, Masquerade: true, Protect: true, Independent: true, ClampMSS: true}, nil, nil)
	if g.lost() {
		t.Error("taken for lost")
	}
}

// TestGatewayOfAnybody has an ordinary user try: nothing is changed, and the error says what is needed. Clearing up what
// cannot be there is no error.
func TestGatewayOfAnybody(t *testing.T) {
	host := netlab.New(t).Node("host")
	g := newGateway(t, host, "")
	var err, clearErr error
	done := make(chan struct{})
	go func() { // on a thread that ends with it, having no rights to go home
		defer close(done)
		_ = host.Do(func() error {
			const nobody = 65534
			if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
				err = errno
				return nil
			}
			err = g.Apply(context.Background(), &forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}, Masquerade: true}, nil, forward.List{})
			clearErr = errors.Join(g.Clear(), g.Apply(context.Background(), nil, nil, forward.List{}))
			return nil
		})
	}()
	<-done
	if err == nil || !strings.Contains(err.Error(), "CAP_NET_ADMIN") || clearErr != nil {
		t.Errorf("got %v, and %v for clearing", err, clearErr)
	}
	if got := sysctl(t, host, "net.ipv4.ip_forward"); got != "0" {
		t.Errorf("ip_forward is %s", got)
	}
}

// TestGatewayForeignTable refuses to touch a table that somebody else gave our name.
func TestGatewayForeignTable(t *testing.T) {
	host := netlab.New(t).Node("host")
	host.Nft(t, "table inet fairlead_gateway {\n\tset s {\n\t\ttype ipv4_addr\n\t}\n}\n")
	g := newGateway(t, host, "")
	_ = host.Do(func() error {
		err := g.Apply(context.Background(), &forward.Gateway{WAN: []string{"wan"}, LAN: []string{"lan"}}, nil, forward.List{})
		if err == nil || !strings.Contains(err.Error(), "not made by fairlead") {
			t.Errorf("got %v", err)
		}
		return nil
	})
	if out := host.Run(t, "nft", "list", "ruleset"); !strings.Contains(out, "ipv4_addr") {
		t.Errorf("somebody else's table is gone: %s", out)
	}
}
