package publish

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

func TestDoubleNAT(t *testing.T) {
	for _, outer := range kinds {
		t.Run(outer.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				inner, beyond := &fakeGateway{pcp: true, external: between}, outer.make()
				f := newFakeNet(inner)
				f.behind(outerGW, between, beyond)
				r := start(t, f, web)
				after(10 * time.Second)
				st := r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
				if fmt.Sprint(st.Endpoints[0].Gateways) != "[192.168.1.1 10.7.7.1]" || !st.Verified() {
					t.Errorf("%+v", st)
				}
				if e := beyond.mappings[mapKey{forward.TCP, 8080}]; e.client != between || e.internal != 8080 {
					t.Errorf("%+v", beyond.mappings)
				}
				beyond.restart()
				after(3 * time.Minute)
				if beyond.count() != 1 {
					t.Error("the outer one is not made anew")
				}
				r.stop()
				if inner.count()+beyond.count() != 0 {
					t.Error("it is not deleted at the end")
				}
			})
		})
	}
}

func TestNotReached(t *testing.T) {
	for external, want := range map[string]Kind{"10.0.0.2": KindDoubleNAT, "100.64.3.4": KindCGNAT, "192.168.1.77": KindDoubleNAT, "203.0.113.9": KindNoExternal} {
		t.Run(external, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, newFakeNet(&fakeGateway{natpmp: true, external: netip.MustParseAddr(external)}), web)
				after(10 * time.Second)
				st := r.expect(t, Limited, want, "tcp/"+external+":8080")
				if st.Problem.Hint == "" {
					t.Errorf("%+v", st.Problem)
				}
			})
		})
	}
}

func TestPinhole(t *testing.T) {
	v6, gw := netip.MustParseAddr("2a01:4f8::10"), netip.MustParseAddr("fe80::1")
	for _, g := range []*fakeGateway{{pcp: true}, {igd: 2, firewall: true}} {
		t.Run(fmt.Sprint(g.pcp), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeNet(g)
				f.gateways = map[netip.Addr]*fakeGateway{gw: g}
				f.routes = []Route{{Interface: "eth0", Gateway: gw.WithZone("eth0")}}
				f.addrs = []Address{
					{Interface: "eth0", Prefix: netip.PrefixFrom(v6, 64)}, {Interface: "eth0", Prefix: netip.MustParsePrefix("fe80::2/64")},
					{Interface: "eth0", Prefix: netip.MustParsePrefix("fd00::2/64")}, {Interface: "eth0", Prefix: netip.MustParsePrefix("2a01:4f8::99/64"), Temporary: true},
				}
				r := start(t, f, web)
				after(10 * time.Second)
				st := r.expect(t, Open, KindNone, "tcp/[2a01:4f8::10]:8080")
				if !st.Verified() {
					t.Errorf("%+v", st)
				}
				after(40 * time.Minute)
				r.expect(t, Open, KindNone, "tcp/[2a01:4f8::10]:8080")
				r.stop()
				if g.count() != 0 || len(g.pinholes) != 0 {
					t.Error("it is not deleted at the end")
				}
			})
		})
	}
}

func TestOddIGDs(t *testing.T) {
	for name, g := range map[string]*fakeGateway{
		"only permanent leases": {igd: 1, external: front, permanent: true},
		"short leases":          {pcp: true, external: front, lease: 30 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := start(t, newFakeNet(g), web)
				after(10 * time.Second)
				r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
				asked := g.asked()
				after(10 * time.Minute)
				if n := g.asked() - asked; n > 120 {
					t.Errorf("asked %d times in ten minutes", n)
				}
				r.stop()
				if g.count() != 0 {
					t.Error("it is not deleted at the end")
				}
			})
		})
	}
	t.Run("keeps nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			r := start(t, newFakeNet(&fakeGateway{igd: 1, external: front, lies: true}), web)
			after(10 * time.Second)
			if st := r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080"); st.Verified() {
				t.Error("it is verified, and is not there")
			}
		})
	})
}

func TestStranger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(&fakeGateway{off: true})
		at := netip.MustParseAddr("192.168.1.77")
		other := &fakeGateway{igd: 1, external: front, mappings: map[mapKey]mapEntry{}}
		f.gateways[at] = other
		r := start(t, f, web)
		after(10 * time.Second)
		st := r.expect(t, Open, KindNone, "tcp/198.41.0.4:8080")
		if st.Endpoints[0].Gateways[0] != at {
			t.Errorf("%+v", st)
		}
	})
}

func TestDirect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeNet(&fakeGateway{off: true})
		f.addrs[0].Prefix = netip.MustParsePrefix("198.41.0.7/24")
		r := start(t, f, web)
		after(10 * time.Second)
		if st := r.expect(t, Open, KindNone, "tcp/198.41.0.7:8080"); st.Protocol() != "" || st.Verified() {
			t.Errorf("%+v", st)
		}
	})
}

// TestHostile has gateways that say anything. What matters is that it ends, in bounded time, and is not taken in.
func TestHostile(t *testing.T) {
	long := strings.Repeat("A", 2<<20)
	for name, garble := range map[string]func([]byte) []byte{
		"nothing": func([]byte) []byte { return []byte{} },
		"cut":     func(b []byte) []byte { return b[:min(len(b)/2, 700)] },
		"zeros":   func(b []byte) []byte { return make([]byte, min(len(b), 1000)) },
		"high":    func(b []byte) []byte { return []byte(strings.Repeat("\xff", min(len(b), 1000))) },
		"redirect": func([]byte) []byte {
			return []byte("HTTP/1.1 302 X\r\nLocation: http://198.51.100.1/\r\nContent-Length: 0\r\n\r\n")
		},
		"endless": func([]byte) []byte { return []byte("HTTP/1.1 200 OK\r\n\r\n" + long) },
		"headers": func([]byte) []byte { return []byte("HTTP/1.1 200 OK\r\nX: " + long + "\r\n\r\n") },
		"entities": func([]byte) []byte {
			return []byte("HTTP/1.1 200 OK\r\n\r\n<!DOCTYPE a [<!ENTITY b \"c\">]><a>&b;</a>")
		},
		"control away":  func([]byte) []byte { return []byte("HTTP/1.1 200 OK\r\n\r\n" + awayDescription) },
		"never answers": func([]byte) []byte { time.Sleep(time.Hour); return nil },
	} {
		for _, k := range kinds {
			t.Run(name+" "+k.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					g := k.make()
					g.garble = garble
					r := start(t, newFakeNet(g), web)
					after(time.Minute)
					if st, _ := r.State("web"); st.Phase != Failed {
						t.Errorf("%+v", st)
					}
					began := time.Now()
					r.stop()
					if d := time.Since(began); d > 10*time.Second {
						t.Errorf("it took %v to end", d)
					}
					if name == "never answers" {
						time.Sleep(2 * time.Hour) // the fake's own
					}
				})
			})
		}
	}
}

const awayDescription = `<root><device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><serviceList><service>
<serviceType>urn:schemas-upnp-org:service:WANIPConnection:1</serviceType><controlURL>http://198.51.100.1/ctl</controlURL></service></serviceList></device></root>`

func TestLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner := &fakeGateway{pcp: true, natpmp: true, igd: 2, external: between}
		f := newFakeNet(inner)
		inner.mappings[mapKey{forward.UDP, 4000}] = mapEntry{client: home, internal: 4001}
		f.behind(outerGW, between, &fakeGateway{igd: 1, external: netip.MustParseAddr("100.64.0.9")})
		r, err := Look(t.Context(), Options{Network: f})
		if err != nil || len(r.Gateways) != 2 {
			t.Fatalf("%v, %+v", err, r)
		}
		g := r.Gateways[0]
		if r.NAT != NATCGNAT || len(g.Protocols) != 3 || !g.Listed || len(g.Mappings) != 1 || strings.Contains(g.Name, "\x1b") || r.Problem.Kind != KindCGNAT {
			t.Errorf("%+v", r)
		}
		if inner.asked() != 0 {
			t.Error("looking has mapped something")
		}
		time.Sleep(time.Minute)
	})
}
