package behaviour

import (
	"context"
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// in runs Discover in a bubble; it must leave nothing behind and keep to its time.
func in(t *testing.T, f *fakeNAT, check func(t *testing.T, r Report, err error)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r, err := Discover(t.Context(), f, primary)
		if took := time.Since(began); took > MaxTime {
			t.Errorf("it took %v", took)
		}
		if f.open != 0 {
			t.Errorf("%d ports are open still", f.open)
		}
		check(t, r, err)
	})
}

// TestKinds has a NAT of each kind, with and without losses.
func TestKinds(t *testing.T) {
	for _, mapping := range []Rule{None, Endpoint, Address, AddressPort} {
		for _, filter := range []Rule{Endpoint, Address, AddressPort} {
			for _, hairpin := range []bool{false, true} {
				for _, lose := range []int{0, 3} {
					f := &fakeNAT{mapping: mapping, filter: filter, hairpin: hairpin, lose: lose}
					in(t, f, func(t *testing.T, r Report, err error) {
						if err != nil || r.Mapping != mapping || r.Filter != filter || r.Missing != "" || r.Other != secondary || r.Local.Addr() != inside {
							t.Errorf("%v, %v, losing %d: %+v, %v", mapping, filter, lose, r, err)
						}
						want := HairpinNo
						// Who is seen by another port than was said is not let in, unless that is all the same.
						sees := filter == Endpoint || filter == Address || mapping == Endpoint
						if hairpin && sees {
							want = HairpinYes
						}
						if mapping == None {
							want = HairpinNeedless
						}
						if r.Hairpin != want {
							t.Errorf("%v, %v, hairpin %v, losing %d: hairpin is %q, want %q", mapping, filter, hairpin, lose, r.Hairpin, want)
						}
						grade := Moderate
						switch {
						case mapping == Address || mapping == AddressPort:
							grade = Strict
						case filter == Endpoint:
							grade = Open
						}
						if r.Grade() != grade {
							t.Errorf("%v, %v: %v", mapping, filter, r.Grade())
						}
					})
				}
			}
		}
	}
}

// TestServers has servers that cannot tell all.
func TestServers(t *testing.T) {
	dead := func(a netip.AddrPort) bool { return a.Addr() == secondary.Addr() }
	for _, c := range []struct {
		name            string
		nat             *fakeNAT
		mapping, filter Rule
		missing         string
	}{
		{"one address", &fakeNAT{mapping: Endpoint, filter: Endpoint, server: fakeServer{alone: true}}, Unknown, Unknown, oneAddress},
		{"one address, no NAT", &fakeNAT{mapping: None, filter: Endpoint, server: fakeServer{alone: true}}, None, Unknown, oneFilter},
		{"the other is dead", &fakeNAT{mapping: Endpoint, filter: AddressPort, blocks: dead}, Unknown, Unknown, otherDead},
		{"the other is dead, no NAT", &fakeNAT{mapping: None, filter: AddressPort, blocks: dead}, None, Unknown, otherDead},
		{"the other is dead, symmetric", &fakeNAT{mapping: AddressPort, filter: AddressPort, blocks: dead}, AddressPort, Unknown, otherDead},
		{"the other is dead, and everybody let in", &fakeNAT{mapping: Endpoint, filter: Endpoint, blocks: dead}, Unknown, Endpoint, otherDead},
		{"it keeps its address", &fakeNAT{mapping: Endpoint, filter: Endpoint, server: fakeServer{keeps: true}}, Endpoint, Unknown, noChange},
		{"it refuses to change", &fakeNAT{mapping: Endpoint, filter: Endpoint, server: fakeServer{refusesMore: 420}}, Endpoint, Unknown, noChange},
		{"the other is itself", &fakeNAT{mapping: Endpoint, filter: Endpoint, server: fakeServer{other: primary}}, Unknown, Unknown, oneAddress},
	} {
		in(t, c.nat, func(t *testing.T, r Report, err error) {
			if err != nil || r.Mapping != c.mapping || r.Filter != c.filter || r.Missing != c.missing {
				t.Errorf("%s: %+v, %v", c.name, r, err)
			}
		})
	}
}

// TestNobodyElseIsAsked has a server send its client to others.
func TestNobodyElseIsAsked(t *testing.T) {
	for _, s := range []string{"192.168.1.1:53", "127.0.0.1:53", "100.64.0.1:53", "169.254.169.254:80", "224.0.0.1:53", "0.0.0.0:53", "255.255.255.255:53",
		"198.41.0.11:0", "198.41.0.11:3478", "198.41.0.9:53", "[2001:4860::1]:53", "[::ffff:192.168.1.1]:53", "[::ffff:198.41.0.9]:53"} {
		f := &fakeNAT{mapping: Endpoint, filter: Endpoint, server: fakeServer{other: netip.MustParseAddrPort(s)}}
		in(t, f, func(t *testing.T, r Report, err error) {
			if err != nil || r.Other.IsValid() || len(f.asked) != 1 {
				t.Errorf("%s: %+v, %v; asked %v", s, r, err, f.asked)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	all := func(netip.AddrPort) bool { return true }
	for _, c := range []struct {
		name string
		nat  *fakeNAT
		want string
	}{
		{"blocked", &fakeNAT{blocks: all}, "the STUN server 198.41.0.9:3478 does not answer: "},
		{"cannot send", &fakeNAT{lose: 100}, "the STUN server 198.41.0.9:3478 cannot be asked: no buffer space"},
		{"no route", &fakeNAT{unreachable: errors.New("network is unreachable")}, "cannot be asked: network is unreachable"},
		{"refuses", &fakeNAT{server: fakeServer{code: 401}}, "refuses with error 401"},
		{"nonsense", &fakeNAT{server: fakeServer{says: netip.MustParseAddrPort("224.0.0.1:1")}}, "does not say which address it sees"},
		{"another family", &fakeNAT{server: fakeServer{says: netip.MustParseAddrPort("[2001:4860::1]:1")}}, "does not say which address it sees"},
	} {
		c.nat.mapping, c.nat.filter = Endpoint, Endpoint
		in(t, c.nat, func(t *testing.T, r Report, err error) {
			if err == nil || !strings.Contains(err.Error(), c.want) || r.Grade() != GradeUnknown || r.Public.IsValid() {
				t.Errorf("%s: %+v, %v", c.name, r, err)
			}
			var silent *NoAnswerError
			var refused *RefusedError
			if !errors.As(err, &silent) && !errors.As(err, &refused) {
				t.Errorf("%s: %T", c.name, err)
			}
		})
	}
}

func TestStopped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		f := &fakeNAT{mapping: Endpoint, filter: AddressPort}
		if r, err := Discover(ctx, f, primary); !errors.Is(err, context.Canceled) || f.open != 0 {
			t.Errorf("%+v, %v; %d ports are open", r, err, f.open)
		}
	})
}

// TestRealPorts is the system's network, where nobody answers.
func TestRealPorts(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if r, err := Discover(ctx, System{}, netip.MustParseAddrPort("127.0.0.1:9")); !errors.Is(err, context.DeadlineExceeded) || r.Local.Addr() != netip.MustParseAddr("127.0.0.1") {
		t.Errorf("%+v, %v", r, err)
	}
}
