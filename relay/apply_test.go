package relay

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestApplyKeepsWhatDidNotChange(t *testing.T) {
	one, two := serve(t, "tcp", "127.0.0.1:0", echo).String(), serve(t, "tcp", "127.0.0.1:0", say("two")).String()
	a, b := freePort(t), freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "a", a, one), fwd(t, "b", b, one))
	onA, onB := dial(t, "tcp", "127.0.0.1:"+a), dial(t, "tcp", "127.0.0.1:"+b)
	ask(t, onA, "hello")
	ask(t, onB, "hello")
	listeners := func() map[place]*listener {
		r.mu.RLock()
		defer r.mu.RUnlock()
		m := map[place]*listener{}
		for p, l := range r.places {
			m[p] = l
		}
		return m
	}
	before := listeners()

	// b leads elsewhere: both sessions finish where they began, both listeners stay.
	apply(t, r, fwd(t, "a", a, one), fwd(t, "b", b, two))
	ask(t, onA, "again")
	ask(t, onB, "again")
	if got, _ := readAll(t, dial(t, "tcp", "127.0.0.1:"+b)); got != "two" {
		t.Errorf("a new session went to %q", got)
	}
	for p, l := range listeners() {
		if before[p] != l {
			t.Errorf("the listener at %s was replaced", p)
		}
	}

	// b is renamed: the listener stays, the session was the old forward's.
	apply(t, r, fwd(t, "a", a, one), fwd(t, "c", b, one))
	if _, err := onB.Read(make([]byte, 1)); err == nil {
		t.Error("the session of a forward that is gone goes on")
	}
	ask(t, dial(t, "tcp", "127.0.0.1:"+b), "hello")
	for p, l := range listeners() {
		if before[p] != l {
			t.Errorf("the listener at %s was replaced", p)
		}
	}

	// a gets another port and no longer the old one.
	if s := r.Stats()["a"]; s.Total != 1 {
		t.Errorf("stats are %+v", s)
	}
	elsewhere := freePort(t)
	apply(t, r, fwd(t, "a", elsewhere, one))
	if _, err := onA.Read(make([]byte, 1)); err == nil {
		t.Error("a session on a port that was given up goes on")
	}
	if c, err := net.Dial("tcp", "127.0.0.1:"+a); err == nil {
		c.Close()
		t.Error("the old port still listens")
	}
	ask(t, dial(t, "tcp", "127.0.0.1:"+elsewhere), "hello")
	if s := r.Stats()["a"]; s.Total != 2 {
		t.Errorf("stats are %+v; totals go on from where they were", s)
	}
	if s := r.Stats(); len(s) != 1 {
		t.Errorf("stats are of %d forwards, want 1", len(s))
	}
}

func TestNarrowedFromEndsSessions(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	r := startRelay(t)
	apply(t, r, fwd(t, "x", port, target))
	in, out := dialFrom(t, "127.0.0.2", "127.0.0.1:"+port), dialFrom(t, "127.0.0.3", "127.0.0.1:"+port)
	ask(t, in, "hello")
	ask(t, out, "hello")
	f := fwd(t, "x", port, target)
	f.From = prefixes("127.0.0.2/32")
	apply(t, r, f)
	ask(t, in, "still here")
	if _, err := out.Read(make([]byte, 1)); err == nil {
		t.Error("a client that is no longer served goes on")
	}
}

func TestBusyPort(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	busy, free, alone := freePort(t), freePort(t), freePort(t)
	squatter, err := net.Listen("tcp", ":"+busy)
	if err != nil {
		t.Fatal(err)
	}
	r := startRelay(t)
	want := []*forward.Forward{fwd(t, "both", free+","+busy, target), fwd(t, "well", alone, target)}
	result := r.Apply(t.Context(), forward.ListOf(want...))
	var listen *ListenError
	if err := result["both"]; !errors.As(err, &listen) || err.Error() != "tcp/"+busy+" is in use by another program" {
		t.Errorf("the error is %v", err)
	}
	if err := result["well"]; err != nil {
		t.Errorf("the other forward failed with it: %v", err)
	}
	ask(t, dial(t, "tcp", "127.0.0.1:"+alone), "hello")
	if c, err := net.Dial("tcp", "127.0.0.1:"+free); err == nil {
		c.Close()
		t.Error("the failed forward listens on its free port")
	}
	if _, ok := r.Stats()["both"]; !ok {
		t.Error("a failed forward has no stats")
	}
	squatter.Close()
	apply(t, r, want...)
	ask(t, dial(t, "tcp", "127.0.0.1:"+busy), "hello")
	ask(t, dial(t, "tcp", "127.0.0.1:"+free), "hello")
}

func TestDispatchByFrom(t *testing.T) {
	everybody := serve(t, "tcp", "127.0.0.1:0", say("everybody")).String()
	anna := serve(t, "tcp", "127.0.0.1:0", say("anna")).String()
	exact := serve(t, "tcp", "127.0.0.1:0", say("exact")).String()
	port := freePort(t)
	r := startRelay(t)
	broad, narrow := fwd(t, "broad", port, everybody), fwd(t, "narrow", port, anna)
	narrow.From = prefixes("127.0.0.8/29")
	narrow.Except = prefixes("127.0.0.9/32")
	check := func(local, addr, want string) {
		t.Helper()
		got, err := readAll(t, dialFrom(t, local, addr+":"+port))
		if got != want || err != nil {
			t.Errorf("%s to %s reached %q, %v; want %q", local, addr, got, err, want)
		}
	}
	apply(t, r, broad, narrow)
	check("127.0.0.10", "127.0.0.1", "anna")
	check("127.0.0.9", "127.0.0.1", "everybody")
	check("127.0.0.2", "127.0.0.1", "everybody")

	// An exact address opens a socket of its own beside the wildcard.
	own := fwd(t, "own", "127.0.0.5:"+port, exact)
	apply(t, r, broad, narrow, own)
	check("127.0.0.2", "127.0.0.5", "exact")
	check("127.0.0.2", "127.0.0.1", "everybody")
	check("127.0.0.10", "127.0.0.5", "anna") // the narrower from wins over the exact address

	// Without the broad one, others are refused, and the one that is left is told.
	apply(t, r, narrow)
	turnedAwayAt(t, "127.0.0.2", "127.0.0.1:"+port)
	refusedBecomes(t, r, "narrow", 1)
	check("127.0.0.10", "127.0.0.1", "anna")
}

func TestTie(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	port := freePort(t)
	r := startRelay(t)
	result := r.Apply(t.Context(), forward.ListOf(fwd(t, "a", port, target), fwd(t, "b", port, target)))
	var tie *forward.TieError
	if result["a"] != nil || !errors.As(result["b"], &tie) {
		t.Errorf("results are %v", result)
	}
	apply(t, r, fwd(t, "b", port, target))
	ask(t, dial(t, "tcp", "127.0.0.1:"+port), "hello")
}

func TestUnixListener(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	path := filepath.Join(t.TempDir(), "s")
	r := startRelay(t)
	a, b := fwd(t, "a", "unix:"+path, target), fwd(t, "b", "unix:"+path, target)
	result := r.Apply(t.Context(), forward.ListOf(a, b))
	if err := result["b"]; result["a"] != nil || err == nil || !strings.Contains(err.Error(), `taken by forward "a"`) {
		t.Errorf("results are %v", result)
	}
	c := dial(t, "unix", path)
	ask(t, c, "hello")
	if list := sessionsOf(r); len(list) != 1 || list[0].Client != "unix" {
		t.Errorf("sessions are %+v", list)
	}
	apply(t, r, b)
	ask(t, dial(t, "unix", path), "hello")
	apply(t, r)
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket file stayed")
	}
}

func TestWhatCannotBe(t *testing.T) {
	r := startRelay(t)
	at, iface := fwd(t, "at", freePort(t), "192.0.2.9:1"), fwd(t, "iface", freePort(t), "192.0.2.9:1")
	at.At = "bastion"
	iface.Interface = "no-such-if0"
	addr := fwd(t, "addr", "192.0.2.1:"+freePort(t), "192.0.2.9:1")
	result := r.Apply(t.Context(), forward.ListOf(addr, at, fwd(t, "dmz", "*", "192.0.2.9"), iface))
	for name, want := range map[string]string{
		"addr": "the address is not one of this host", "at": "not known", "dmz": "kernel alone", "iface": "no-such-if0",
	} {
		if err := result[name]; err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want something about %q", name, err, want)
		}
	}
}

func TestInterface(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs SO_BINDTODEVICE")
	}
	target := serve(t, "tcp", "127.0.0.1:0", say("lo")).String()
	rest := serve(t, "tcp", "127.0.0.1:0", say("rest")).String()
	port := freePort(t)
	onLo := fwd(t, "lo", port, target)
	onLo.Interface = "lo"
	r := startRelay(t)
	result := r.Apply(t.Context(), forward.ListOf(onLo, fwd(t, "rest", port, rest)))
	if err := result["lo"]; err != nil && strings.Contains(err.Error(), "permission") {
		t.Skip(err) // kernels before 5.7 want CAP_NET_RAW
	}
	for name, err := range result {
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if got, _ := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "lo" {
		t.Errorf("reached %q", got)
	}
	apply(t, r, fwd(t, "rest", port, rest))
	if got, _ := readAll(t, dial(t, "tcp", "127.0.0.1:"+port)); got != "rest" {
		t.Errorf("reached %q once the forward of the interface was gone", got)
	}
}

func TestApplyAfterTheEnd(t *testing.T) {
	r := New(Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := r.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if err := r.Apply(t.Context(), forward.ListOf(fwd(t, "x", "1", "192.0.2.9")))["x"]; !errors.Is(err, errEnded) {
		t.Errorf("Apply said %v", err)
	}
}

func TestApplyManyIsOneDiff(t *testing.T) {
	target := serve(t, "tcp", "127.0.0.1:0", echo).String()
	r := startRelay(t)
	var want []*forward.Forward
	for i := range 300 {
		want = append(want, fwd(t, "f"+itoa(1000+i), "127.0.0.3:"+itoa(20000+i), target))
	}
	apply(t, r, want...)
	c := dial(t, "tcp", "127.0.0.3:20007")
	ask(t, c, "hello")
	changed := append([]*forward.Forward(nil), want...)
	changed[100] = fwd(t, changed[100].Name, "127.0.0.3:20100", "127.0.0.1:9")
	next := forward.ListOf(changed...)
	removed, added := r.want.Differ(next)
	if changes := r.diff(next, removed, added, nil); len(changes) != 1 {
		t.Errorf("%d changes, want 1", len(changes))
	}
	if result := r.Apply(t.Context(), next); len(result) != 0 {
		t.Errorf("%d forwards are refused: %v", len(result), result)
	}
	if _, err := io.WriteString(c, ""); err != nil {
		t.Error(err)
	}
	ask(t, c, "still here")
}
