package hub

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/store"
	"github.com/fairlead-net/fairlead/tunnel"
)

var (
	hubKey = tunnel.Key{0xff}
	noon   = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

func openRegistry(t *testing.T, s store.Store) *Registry {
	t.Helper()
	r, err := OpenRegistry(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func mustToken(t *testing.T, r *Registry, o TokenOptions) Token {
	t.Helper()
	token, err := r.NewToken(hubKey, o, noon)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestEnrolOnce(t *testing.T) {
	s := store.Memory()
	r := openRegistry(t, s)
	token := mustToken(t, r, TokenOptions{})
	anna, ben := tunnel.Key{1}, tunnel.Key{2}
	rec, err := r.Enrol(anna, token.Secret(), "Anna's PC", "fairlead 1", unspoken, 0, noon)
	if err != nil || rec.Name != "anna-s-pc" {
		t.Fatalf("%+v, %v", rec, err)
	}
	if _, err := r.Enrol(ben, token.Secret(), "ben", "", unspoken, 0, noon); !errors.Is(err, ErrSecret) {
		t.Errorf("the second use: %v", err)
	}
	if again, err := r.Enrol(anna, token.Secret(), "other", "", unspoken, 0, noon); err != nil || again.Name != rec.Name {
		t.Errorf("the first answer was lost, and the second is %+v, %v", again, err)
	}
	if _, err := r.Enrol(anna, newToken(hubKey).Secret(), "anna", "", unspoken, 0, noon); !errors.Is(err, ErrSecret) {
		t.Errorf("an agent with a wrong token: %v", err)
	}
	late := mustToken(t, r, TokenOptions{})
	if _, err := r.Enrol(ben, late.Secret(), "ben", "", unspoken, 0, noon.Add(tokenLife)); !errors.Is(err, ErrSecret) {
		t.Errorf("an expired token: %v", err)
	}
	wrong := late
	wrong.Key[17]++
	for _, secret := range []string{wrong.Secret(), "", "x", late.String()} {
		if _, err := r.Enrol(ben, secret, "ben", "", unspoken, 0, noon); !errors.Is(err, ErrSecret) {
			t.Errorf("%q: %v", secret, err)
		}
	}
	if r2 := openRegistry(t, s); len(r2.Agents()) != 1 || len(r2.Tokens(noon)) != 1 {
		t.Errorf("kept are %+v, %+v", r2.Agents(), r2.Tokens(noon))
	}
	if err := r.DeleteToken(late.id()); err != nil {
		t.Error(err)
	}
	if _, err := r.Enrol(ben, late.Secret(), "ben", "", unspoken, 0, noon); !errors.Is(err, ErrSecret) {
		t.Errorf("a deleted token: %v", err)
	}
}

// TestOneTokenManyAtOnce has a hundred machines enrol by one token: one of them is in.
func TestOneTokenManyAtOnce(t *testing.T) {
	r := openRegistry(t, store.Memory())
	token := mustToken(t, r, TokenOptions{Name: "printer"})
	var in atomic.Int32
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			if _, err := r.Enrol(tunnel.Key{byte(i), 1}, token.Secret(), "x", "", unspoken, 0, noon); err == nil {
				in.Add(1)
			}
		})
	}
	group.Wait()
	if in.Load() != 1 || len(r.Agents()) != 1 || r.Agents()[0].Name != "printer" {
		t.Errorf("%d are in: %+v", in.Load(), r.Agents())
	}
}

func TestTheStoreKeepsNoSecret(t *testing.T) {
	s := store.Memory()
	token := mustToken(t, openRegistry(t, s), TokenOptions{})
	err := s.Each(bucketTokens, func(_ string, value []byte) error {
		for i := 0; i+8 <= len(token.Key); i++ {
			if bytes.Contains(value, token.Key[i:i+8]) {
				return errors.New("part of the secret is kept")
			}
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestNamesAreUnique(t *testing.T) {
	r := openRegistry(t, store.Memory())
	enrol := func(i byte, name string) Record {
		rec, err := r.Enrol(tunnel.Key{i}, mustToken(t, r, TokenOptions{}).Secret(), name, "", unspoken, 0, noon)
		if err != nil {
			t.Fatal(err)
		}
		return rec
	}
	long := "a-name-that-is-longer-than-a-name-may-be"
	for i, c := range []struct{ asked, got string }{
		{"pi", "pi"}, {"pi", "pi-2"}, {"PI", "pi-3"}, {"host", "host-2"}, {"hub", "hub-2"}, {"", "agent"}, {"\x1b[2J", "2j"}, {"…", "agent-2"},
		{long, long[:maxName]}, {long, long[:maxName-2] + "-2"},
	} {
		if rec := enrol(byte(i+1), c.asked); rec.Name != c.got {
			t.Errorf("%q is called %q; want %q", c.asked, rec.Name, c.got)
		}
	}
	if _, err := r.Rename(tunnel.Key{2}, "pi"); err == nil {
		t.Error("a name that another agent has was given")
	}
	if err := r.Revoke(tunnel.Key{1}, noon); err != nil {
		t.Fatal(err)
	}
	if rec, err := r.Rename(tunnel.Key{2}, "pi"); err != nil || rec.Name != "pi" {
		t.Errorf("the name of a revoked agent: %v", err)
	}
	if rec, ok := r.Named("pi-2"); ok {
		t.Errorf("the old name still leads to %+v", rec)
	}
	if rec := enrol(1, "pi"); rec.Name != "pi-2" || !rec.Revoked.IsZero() {
		t.Errorf("enrolled again it is %+v", rec)
	}
}

func TestRegistryKeepsWhatItSaid(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	limits := Limits{
		Ports: []forward.Range{{First: 80, Last: 80}}, Addresses: []netip.Addr{netip.MustParseAddr("::1")}, Hosts: []string{"*.example.com"},
		Targets: []forward.Rule{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Ports: forward.Range{First: 22, Last: 22}}, {Host: "db"}},
		Reach:   []string{}, Bandwidth: 5, Sessions: 6, Forwards: 7, Expires: noon.Add(time.Hour),
	}
	key := tunnel.Key{9}
	func() {
		s, err := store.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		r := openRegistry(t, s)
		if _, err := r.Enrol(key, mustToken(t, r, TokenOptions{Limits: limits}).Secret(), "nas", "fairlead 2", unspoken, 0, noon); err != nil {
			t.Fatal(err)
		}
		at, _ := listenOf(80)
		if err := claimFor(r, key, at, true, nobody, noon); err != nil {
			t.Fatal(err)
		}
		r.Seen(key, "", noon.Add(time.Minute))
		if err := r.Flush(); err != nil {
			t.Fatal(err)
		}
		// What is on the disk now is what a process that is killed leaves behind.
		data, err := os.ReadFile(path)
		if err == nil {
			err = os.WriteFile(path+".killed", data, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}()
	for _, path := range []string{path, path + ".killed"} {
		kept(t, path, key, limits)
	}
}

func kept(t *testing.T, path string, key tunnel.Key, limits Limits) {
	s, err := store.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	rec, ok := openRegistry(t, s).Named("nas")
	if !ok || rec.Key != key || !rec.Limits.Equal(limits) || rec.Program != "fairlead 2" || !rec.LastSeen.Equal(noon.Add(time.Minute)) || len(rec.claims) != 1 || !rec.claims[0].Picked {
		t.Errorf("%+v", rec)
	}
}

func nobody(tunnel.Key) bool { return false }

// claimFor is what a hub does when an agent has listened at a place.
func claimFor(r *Registry, key tunnel.Key, at forward.Door, picked bool, here func(tunnel.Key) bool, now time.Time) error {
	if _, err := r.Reserve(key, at, here, now); err != nil {
		return err
	}
	return r.Keep(key, at, picked, ordinaryForwards, nil)
}

func listenOf(port uint16) (forward.Door, error) {
	l, err := forward.ParseListen(fmt.Sprint(port))
	return forward.Door{Listen: l}, err
}

func TestClaims(t *testing.T) {
	r := openRegistry(t, store.Memory())
	anna, ben := tunnel.Key{1}, tunnel.Key{2}
	for _, k := range []tunnel.Key{anna, ben} {
		if _, err := r.Enrol(k, mustToken(t, r, TokenOptions{}).Secret(), "", "", unspoken, 0, noon); err != nil {
			t.Fatal(err)
		}
	}
	at := func(s string) forward.Door {
		l, err := forward.ParseListen(s)
		if err != nil {
			t.Fatal(err)
		}
		return forward.Door{Listen: l}
	}
	named := at("443")
	if named.Hosts = []string{"blog.example.com"}; claimFor(r, anna, named, false, nobody, noon) != nil {
		t.Error("a name that is nobody's is not to be had")
	}
	if err := claimFor(r, ben, named, false, nobody, noon); err == nil {
		t.Error("a name is two agents'")
	}
	if err := claimFor(r, ben, at("443"), false, nobody, noon); err == nil {
		t.Error("one agent has the port of which another has a name")
	}
	if named.Hosts = []string{"shop.example.com"}; claimFor(r, ben, named, false, nobody, noon) != nil {
		t.Error("two names do not share a port")
	}
	if err := claimFor(r, anna, at("127.0.0.1:8080"), false, nobody, noon); err != nil {
		t.Fatal(err)
	}
	for place, free := range map[string]bool{"127.0.0.1:8080": false, "8080": false, "0.0.0.0:8080": false, "127.0.0.2:8080": true, "udp/127.0.0.1:8080": true, "8081": true} {
		if err := claimFor(r, ben, at(place), false, nobody, noon); (err == nil) != free {
			t.Errorf("%s: %v", place, err)
		}
		_ = r.Unclaim(ben, at(place))
	}
	later := noon.Add(hold)
	if err := claimFor(r, ben, at("8080"), false, func(k tunnel.Key) bool { return k == anna }, later); err == nil {
		t.Error("the place of an agent that is there was taken")
	}
	if err := claimFor(r, ben, at("8080"), false, nobody, later); err != nil {
		t.Errorf("the place of an agent that was away for a day: %v", err)
	}
	if err := r.Unclaim(ben, at("8080")); err != nil {
		t.Fatal(err)
	}
	if err := r.Revoke(anna, later); err != nil {
		t.Fatal(err)
	}
	if err := claimFor(r, ben, at("8080"), false, nobody, noon); err != nil {
		t.Errorf("the place of an agent that was revoked: %v", err)
	}
}

func TestThrottle(t *testing.T) {
	var th throttle
	from := func(i int) netip.Prefix { return sourceOf(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})) }
	for range wrongPerSource {
		if !th.may(from(1), noon) {
			t.Fatal("too early")
		}
		th.wrong(from(1), noon)
	}
	if th.may(from(1), noon) || !th.may(from(2), noon) {
		t.Error("the source that was wrong may go on, or another may not")
	}
	if !th.may(from(1), noon.Add(wrongEvery)) {
		t.Error("there is no forgiveness")
	}
	for i := range 3 * maxSources {
		th.wrong(from(i), noon)
	}
	if len(th.sources) > maxSources {
		t.Errorf("%d sources are remembered", len(th.sources))
	}
	if th.may(from(20_000), noon) {
		t.Error("there is no limit for all together")
	}
	if a, b := sourceOf(netip.MustParseAddr("2001:db8::1")), sourceOf(netip.MustParseAddr("2001:db8::2:1")); a != b {
		t.Errorf("%s and %s are one network", a, b)
	}
}

func TestLimitsOver(t *testing.T) {
	token := Limits{Ports: []forward.Range{{First: 8000, Last: 8010}}, Targets: []forward.Rule{{Host: "db"}}, Bandwidth: 100}
	file := Limits{Targets: []forward.Rule{}, Sessions: 3}
	got := file.Over(token).ordinary()
	want := Limits{Ports: token.Ports, Targets: []forward.Rule{}, Bandwidth: 100, Sessions: 3, Forwards: ordinaryForwards}
	if !got.Equal(want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	for text, may := range map[string]bool{"8000": true, "8010": true, "8011": false, "80": false} {
		l, _ := forward.ParseListen(text)
		if (got.mayListen(forward.Door{Listen: l}, 0) == nil) != may {
			t.Errorf("%s: %v", text, got.mayListen(forward.Door{Listen: l}, 0))
		}
	}
	if l, _ := forward.ParseListen("80"); (Limits{}).ordinary().mayListen(forward.Door{Listen: l}, 0) == nil {
		t.Error("a port below 1024 may be had without being named")
	}
	if h := (Limits{Hosts: []string{"*.example.com", "b.net"}}); !h.mayHost("A.example.com.") || h.mayHost("example.com") || h.mayHost("x.b.net") || !h.mayHost("b.net") {
		t.Error("host names")
	}
}

// unspoken is that no name stands for anybody.
func unspoken(string) bool { return false }

// TestNamesThatStandForSomebody: who comes with a token for anybody is nobody who has been spoken of.
func TestNamesThatStandForSomebody(t *testing.T) {
	r := openRegistry(t, store.Memory())
	meant := func(name string) bool { return name == "office" }
	join := func(key byte, o TokenOptions, wish string) (Record, error) {
		return r.Enrol(tunnel.Key{key}, mustToken(t, r, o).Secret(), wish, "", meant, 0, noon)
	}
	for i, c := range []struct {
		token      TokenOptions
		wish, want string
	}{
		{TokenOptions{}, "office", "office-2"},
		{TokenOptions{Name: "office"}, "", "office"},
		{TokenOptions{Name: "desk", Limits: Limits{Reach: []string{"nas"}}}, "", "desk"},
		{TokenOptions{}, "nas", "nas-2"}, // desk would reach it
	} {
		if rec, err := join(byte(i+1), c.token, c.wish); err != nil || rec.Name != c.want {
			t.Errorf("%+v, %q: %q, %v", c.token, c.wish, rec.Name, err)
		}
	}
	if err := r.Revoke(tunnel.Key{3}, noon); err != nil {
		t.Fatal(err)
	}
	if rec, err := join(8, TokenOptions{}, "desk"); err != nil || rec.Name == "desk" {
		t.Errorf("it has the name of one that was revoked: %q, %v", rec.Name, err)
	}
	if _, err := join(9, TokenOptions{Name: "office"}, ""); !errors.Is(err, ErrNameTaken) {
		t.Errorf("a token for a name that another has: %v", err)
	}
}
