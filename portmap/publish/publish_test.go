package publish

import (
	"context"
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/natpmp"
	"github.com/fairlead-net/fairlead/portmap/pcp"
	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// kinds is a gateway for each protocol.
var kinds = []struct {
	name string
	make func() *fakeGateway
	says portmap.Protocol
}{
	{"pcp", func() *fakeGateway { return &fakeGateway{pcp: true, external: front} }, portmap.PCP},
	{"natpmp", func() *fakeGateway { return &fakeGateway{natpmp: true, external: front} }, portmap.NATPMP},
	{"igd1", func() *fakeGateway { return &fakeGateway{igd: 1, external: front} }, portmap.UPnP},
	{"igd2", func() *fakeGateway { return &fakeGateway{igd: 2, external: front} }, portmap.UPnP},
}

var web = Wish{Name: "web", Networks: forward.TCP, Ports: []forward.Range{{First: 8080, Last: 8080}}}

// A rig is a Publisher that runs in a bubble.
type rig struct {
	*Publisher
	net  *fakeNet
	stop func()
}

func start(t *testing.T, f *fakeNet, wishes ...Wish) *rig {
	t.Helper()
	p := New(Options{Network: f, Secret: []byte("x")})
	if err := p.Apply(wishes); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	stopped := false
	r := &rig{Publisher: p, net: f}
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(r.stop)
	return r
}

// after lets time pass, and everything that it brings.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (r *rig) expect(t *testing.T, phase Phase, kind Kind, endpoints ...string) State {
	t.Helper()
	st, ok := r.State("web")
	var got []string
	for _, e := range st.Endpoints {
		got = append(got, fmt.Sprintf("%s/%s", e.Network, e.Public))
	}
	found := KindNone
	if st.Problem != nil {
		found = st.Problem.Kind
	}
	if !ok || st.Phase != phase || found != kind || fmt.Sprint(got) != fmt.Sprint(endpoints) {
		t.Fatalf("it is %s with %v at %v (%v); expected %s with %v at %v", st.Phase, found, got, st.Problem, phase, kind, endpoints)
	}
	return st
}

func each(t *testing.T, body func(t *testing.T, g *fakeGateway, says portmap.Protocol)) {
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { body(t, k.make(), k.says) })
		})
	}
}

func TestOpenRenewClose(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		r := start(t, newFakeNet(g), web)
		after(5 * time.Second)
		st := r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
		if st.Protocol() != says || !st.Verified() || g.count() != 1 {
			t.Errorf("%+v; %d mappings", st, g.count())
		}
		before := g.asked()
		after(28 * time.Minute)
		if says != portmap.UPnP && g.asked() != before {
			t.Error("it is renewed before half of its life is over")
		}
		after(12 * time.Minute) // five eighths, and a look
		if g.asked() <= before {
			t.Error("it is not renewed")
		}
		again := r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
		if !again.Expires().After(st.Expires()) {
			t.Error("the lease is not longer than before")
		}
		r.stop()
		if g.count() != 0 {
			t.Error("it is not deleted at the end")
		}
	})
}

func TestRestart(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		r := start(t, newFakeNet(g), web)
		after(5 * time.Minute)
		r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
		g.restart()
		if g.count() != 0 {
			t.Fatal("the fake does not forget")
		}
		// Nobody gives notice: a look has to find out, within its interval and what a renewal that fails costs.
		after(2 * time.Minute)
		if g.count() != 1 {
			t.Error("it is not made anew")
		}
		r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
	})
}

func TestNotice(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		f := newFakeNet(g)
		r := start(t, f, web)
		after(5 * time.Second)
		g.restart()
		switch says {
		case portmap.PCP:
			f.notice(pcp.ClientPort, Heard{homeGW, pcp.AppendResponse(nil, &pcp.Response{Opcode: pcp.Announce})})
		case portmap.NATPMP:
			f.notice(natpmp.ClientPort, Heard{homeGW, natpmp.AppendResponse(nil, &natpmp.Response{Opcode: natpmp.Address, Address: front})})
		default:
			f.notice(ssdp.Port, Heard{homeGW, g.answer(homeGW, upnp.InternetGatewayDevice+":1", ssdp.Alive)})
		}
		after(10 * time.Second)
		if g.count() != 1 {
			t.Error("it is not made anew")
		}
		r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
		// The same from somebody else means nothing.
		asked := g.asked()
		g.mu.Lock()
		g.gen++
		g.mu.Unlock()
		f.notice(ssdp.Port, Heard{netip.MustParseAddr("192.168.1.66"), g.answer(homeGW, upnp.InternetGatewayDevice+":1", ssdp.Alive)})
		after(10 * time.Second)
		if g.asked() != asked {
			t.Error("a stranger's notice has an effect")
		}
	})
}

func TestExternalChanges(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		r := start(t, newFakeNet(g), web)
		after(5 * time.Second)
		g.mu.Lock()
		g.external = netip.MustParseAddr("198.41.0.99")
		if says == portmap.PCP { // RFC 6887, section 8.5: what is lost shows in the clock
			g.started = time.Now()
		}
		g.mu.Unlock()
		after(2 * time.Minute)
		r.expect(t, Open, KindNone, "tcp/198.41.0.99:8080")
	})
}

func TestTaken(t *testing.T) {
	other := mapEntry{client: netip.MustParseAddr("192.168.1.20"), internal: 80}
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		f := newFakeNet(g)
		g.mappings[mapKey{forward.TCP, 8080}] = other
		r := start(t, f, web)
		after(5 * time.Second)
		st := r.expect(t, Open, KindConflict, "tcp/198.41.0.4:8081")
		if st.Problem.Taken != 8081 || !strings.Contains(st.Problem.Text, "8080") {
			t.Errorf("%+v", st.Problem)
		}
		r.stop()
		if g.mappings[mapKey{forward.TCP, 8080}] != other || g.count() != 1 {
			t.Errorf("%+v", g.mappings)
		}
	})
	t.Run("steals", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			g := &fakeGateway{igd: 1, external: front, steals: true}
			f := newFakeNet(g)
			g.mappings[mapKey{forward.TCP, 8080}] = other
			r := start(t, f, web)
			after(5 * time.Second)
			r.expect(t, Open, KindConflict, "tcp/198.41.0.4:8081")
		})
	})
}

func TestBothTransports(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		f := newFakeNet(g)
		g.mappings[mapKey{forward.UDP, 8080}] = mapEntry{client: netip.MustParseAddr("192.168.1.20"), internal: 80}
		w := web
		w.Networks = forward.TCP | forward.UDP
		r := start(t, f, w)
		after(10 * time.Second)
		r.expect(t, Open, KindConflict, "tcp/198.41.0.4:8081", "udp/198.41.0.4:8081")
		asked := g.asked()
		after(10 * time.Minute)
		if says != portmap.UPnP && g.asked() != asked {
			t.Errorf("asked %d times more for nothing", g.asked()-asked)
		}
	})
}

func TestRefused(t *testing.T) {
	codes := map[string]struct {
		code int
		kind Kind
	}{"pcp": {int(pcp.NotAuthorized), KindDenied}, "natpmp": {int(natpmp.NotAuthorized), KindDisabled}, "igd1": {upnp.NotAuthorized, KindDenied}, "igd2": {upnp.NoPorts, KindFull}}
	for _, k := range kinds {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := k.make()
				g.code = codes[k.name].code
				r := start(t, newFakeNet(g), web)
				after(10 * time.Second)
				st := r.expect(t, Failed, codes[k.name].kind)
				if st.Problem.Hint == "" || st.Problem.Gateway != homeGW {
					t.Errorf("%+v", st.Problem)
				}
				g.mu.Lock()
				g.code = 0
				g.mu.Unlock()
				after(11 * time.Minute)
				r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
			})
		})
	}
}

func TestNoExternal(t *testing.T) {
	for _, k := range kinds[1:] {
		t.Run(k.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := k.make()
				g.external = netip.Addr{}
				f := newFakeNet(g)
				r := start(t, f, web)
				after(10 * time.Second)
				r.expect(t, Failed, KindNoExternal)
				f.mu.Lock()
				f.hops[2] = netip.MustParseAddr("100.64.0.1")
				f.mu.Unlock()
				after(time.Minute)
				r.expect(t, Failed, KindCGNAT)
			})
		})
	}
}

func TestSilentThenThere(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		g.off = true
		f := newFakeNet(g)
		r := start(t, f, web)
		after(10 * time.Second)
		r.expect(t, Failed, KindSilent)
		f.mu.Lock()
		asked := f.asked
		f.mu.Unlock()
		after(time.Hour)
		f.mu.Lock()
		if n := f.asked - asked; n > 16 {
			t.Errorf("%d searches in an hour in which nobody answers", n)
		}
		f.mu.Unlock()
		g.turn(true)
		after(15 * time.Minute)
		r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
	})
}

func TestGatewayGoes(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		r := start(t, newFakeNet(g), web)
		after(5 * time.Second)
		g.turn(false)
		after(2 * time.Hour)
		r.expect(t, Failed, KindSilent)
		g.turn(true)
		g.restart()
		after(15 * time.Minute)
		r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
	})
}

func TestNetworkChanges(t *testing.T) {
	each(t, func(t *testing.T, g *fakeGateway, says portmap.Protocol) {
		f := newFakeNet(g)
		r := start(t, f, web)
		after(5 * time.Second)
		f.mu.Lock()
		f.routes, f.addrs = nil, nil
		f.mu.Unlock()
		after(10 * time.Second)
		r.expect(t, Failed, KindNoGateway)
		moved := netip.MustParseAddr("192.168.1.30")
		f.mu.Lock()
		f.routes, f.addrs = []Route{{Interface: "wlan0", Gateway: homeGW}}, []Address{{Interface: "wlan0", Prefix: netip.PrefixFrom(moved, 24)}}
		f.mu.Unlock()
		after(20 * time.Second)
		st := r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
		if st.Endpoints[0].Internal.Addr() != moved {
			t.Errorf("%+v", st)
		}
	})
}

func TestApply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{pcp: true, external: front}
		r := start(t, newFakeNet(g), web)
		after(5 * time.Second)
		changed := r.Changed()
		w := web
		w.External = 9090
		other := Wish{Name: "dns", Networks: forward.UDP, Ports: []forward.Range{{First: 53, Last: 54}}}
		if err := r.Apply([]Wish{w, other, {Name: "bad"}}); err == nil || !strings.Contains(err.Error(), `publish "bad"`) {
			t.Errorf("%v", err)
		}
		after(10 * time.Second)
		select {
		case <-changed:
		default:
			t.Error("nobody is told")
		}
		r.expect(t, Open, KindNone, "tcp/198.41.0.4:9090")
		if g.count() != 3 || len(r.States()) != 3 {
			t.Errorf("%+v, %+v", g.mappings, r.States())
		}
		if st, ok := r.State("bad"); !ok || st.Phase != Failed || st.Problem == nil {
			t.Errorf("%+v", st)
		}
		if err := r.Apply(nil); err != nil {
			t.Error(err)
		}
		after(5 * time.Second)
		if _, ok := r.State("web"); ok || g.count() != 0 {
			t.Error("it is there still")
		}
	})
}

// TestEndsAll looks for goroutines of a Publisher that has ended, with the true network, whatever that is here.
func TestEndsAll(t *testing.T) {
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	p := New(Options{})
	if err := p.Apply([]Wish{{Name: "web", Networks: forward.TCP, Ports: []forward.Range{{First: 8080, Last: 8080}}, Addr: netip.MustParseAddr("127.0.0.1")}}); err != nil {
		t.Fatal(err)
	}
	if err := p.Run(ctx); err != nil {
		t.Fatal(err)
	}
	for range 100 {
		if runtime.NumGoroutine() <= before {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}
