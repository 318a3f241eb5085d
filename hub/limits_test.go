package hub

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
)

func TestLimitsOfListeners(t *testing.T) {
	w := newWorld(t, nil)
	free := w.target() // a port that somebody else has
	_, busy, _ := net.SplitHostPort(free)
	w.enrol(anna, "anna", Limits{Forwards: 2, Addresses: []netip.Addr{netip.MustParseAddr("127.0.0.1")}})
	a := w.run(anna, nil)
	why := func(addr, part string) {
		t.Helper()
		l, err := a.Listen(t.Context(), "tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		w.eventually(addr+" is refused: "+part, func() bool { return strings.Contains(l.(node.Stated).State().Why, part) })
	}
	why("127.0.0.1:80", "the ports are 1024-65535")
	why(":8080", "the addresses are 127.0.0.1")
	why("127.0.0.1:"+busy, "in use")
	l1, l2 := w.listen(a, "127.0.0.1:0"), w.listen(a, "127.0.0.1:0")
	if l1.Addr().String() == l2.Addr().String() {
		t.Errorf("both listen at %s", l1.Addr())
	}
	why("127.0.0.1:0", "2 forwards, which is the most")
	c := w.dial(l1.Addr().String())
	port := uint16(l2.Addr().(*net.TCPAddr).Port)
	w.hub.Apply(Settings{Agents: map[string]Limits{"anna": {Ports: []forward.Range{{First: port, Last: port}}}}})
	w.eventually("the place that is no longer permitted was closed", func() bool { return len(w.doors.Open()) == 1 })
	w.ends("at a place that is not permitted any more", c)
	w.dial(l2.Addr().String())
	w.eventually("the agent knows", func() bool { return !l1.(node.Stated).State().Up })
	w.hub.Apply(Settings{})
	w.eventually("it listens again, by itself", func() bool { return l1.(node.Stated).State().Up })
	if told := a.Self(); told.Name != "anna" || !strings.Contains(strings.Join(told.May, ";"), "1024-65535") {
		t.Errorf("%+v", told)
	}
}

func TestLimitOfSessions(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{Sessions: 2})
	a := w.run(anna, nil)
	l := w.listen(a, "127.0.0.1:0")
	c1, _ := w.dial(l.Addr().String()), w.dial(l.Addr().String())
	c3, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c3.Close()
	w.ends("one too many", c3)
	c1.Close()
	w.eventually("there is room again", func() bool { return w.hub.Agents()[0].Sessions == 1 })
	w.dial(l.Addr().String())
}

func TestExpiry(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	a := w.run(anna, nil)
	l := w.listen(a, "127.0.0.1:0")
	c := w.dial(l.Addr().String())
	if err := w.limit("anna", Limits{Expires: time.Now().Add(50 * time.Millisecond)}); err != nil {
		t.Fatal(err)
	}
	w.ends("expired", c)
	w.eventually("nothing listens for it", func() bool { return len(w.doors.Open()) == 0 })
	w.eventually("it is told", func() bool { return strings.Contains(a.State().Why, "expired") })
	if s := w.hub.Agents()[0]; s.State != StateExpired {
		t.Errorf("%+v", s)
	}
}

// TestExpiryWhileAsleep: the machine has slept, and no timer knows.
func TestExpiryWhileAsleep(t *testing.T) {
	w := newWorld(t, nil)
	var slept atomic.Int64
	w.stop()
	w.beginWith(nil, func(h *Hub) {
		h.now = func() time.Time { return time.Now().Round(0).Add(time.Duration(slept.Load())) }
	})
	w.enrol(anna, "anna", Limits{Expires: time.Now().Add(time.Hour)})
	a := w.run(anna, nil)
	c := w.dial(w.listen(a, "127.0.0.1:0").Addr().String())
	w.hub.look()
	if err := says(c); err != nil {
		t.Error(err)
	}
	slept.Store(int64(2 * time.Hour))
	w.hub.look()
	w.ends("expired", c)
	if s := w.hub.Agents()[0]; s.State != StateExpired {
		t.Errorf("%+v", s)
	}
	if l := (Limits{Expires: time.Now().Add(time.Hour)}); l.expired(time.Now()) || !l.expired(time.Now().Add(2*time.Hour)) {
		t.Error("it expires at another time")
	}
}

// TestMostAgents: tokens that are out do not help where there are as many agents as there may be.
func TestMostAgents(t *testing.T) {
	w := newWorld(t, nil)
	token := func() string {
		token, err := w.hub.NewToken(TokenOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return token.Secret()
	}
	first, second := token(), token()
	w.hub.Apply(Settings{MaxAgents: 1})
	if _, err := w.join(anna, first, "anna"); err != nil {
		t.Fatal(err)
	}
	var said *tunnel.Error
	if _, err := w.join(ben, second, "ben"); !errors.As(err, &said) || said.Code != tunnel.TooMany || !strings.Contains(said.Text, "max_agents") {
		t.Errorf("one too many: %v", err)
	}
	if _, err := w.join(anna, token(), "anna"); err != nil {
		t.Errorf("the one that is there enrols again: %v", err)
	}
	if err := w.hub.Revoke("anna"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.join(ben, second, "ben"); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestBandwidth has a limit count for streams that are open already.
func TestBandwidth(t *testing.T) {
	w := newWorld(t, nil)
	w.enrol(anna, "anna", Limits{})
	m := w.hub.byKey(anna)
	pass, err := m.Enter(tunnel.Call{})
	if err != nil {
		t.Fatal(err)
	}
	defer pass.Leave()
	if n := pass.In.Slice(); n != 0 || pass.In.Pay(1<<30) != 0 {
		t.Errorf("without a limit a slice is %d bytes", n)
	}
	if err := w.limit("anna", Limits{Bandwidth: 1 << 20}); err != nil {
		t.Fatal(err)
	}
	for name, l := range map[string]node.Limit{"in": pass.In, "out": pass.Out} {
		if n := l.Slice(); n == 0 || n > 1<<20 {
			t.Errorf("%s: a slice is %d bytes", name, n)
		}
		l.Pay(1 << 30)
		if l.Pay(1) == 0 {
			t.Errorf("%s: nobody waits", name)
		}
	}
	// A stream with a limit carries the same as one without.
	if err := w.limit("anna", Limits{Bandwidth: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	w.enrol(ben, "ben", Limits{Bandwidth: 64 << 20})
	b := w.run(ben, nil)
	c := w.dial(w.listen(b, "127.0.0.1:0").Addr().String())
	sent := bytes.Repeat([]byte("fairlead"), 64<<10)
	go func() { _, _ = c.Write(sent) }()
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what came back is not what was sent: %v", err)
	}
}

func TestFloodOfTokens(t *testing.T) {
	w := newWorld(t, nil)
	token, err := w.hub.NewToken(TokenOptions{})
	if err != nil {
		t.Fatal(err)
	}
	codes := map[tunnel.Code]int{}
	for i := range 30 {
		_, err := w.join(tunnel.Key{byte(i), 7}, newToken(hubKey).Secret(), "x")
		var said *tunnel.Error
		if !errors.As(err, &said) {
			t.Fatal(err)
		}
		codes[said.Code]++
	}
	if codes[tunnel.Secret] != wrongPerSource || codes[tunnel.TooMany] != 30-wrongPerSource {
		t.Errorf("the answers were %v", codes)
	}
	if _, err := w.join(anna, token.Secret(), "anna"); err != nil || len(w.hub.Agents()) != 1 {
		t.Errorf("who guesses keeps others out: %v, %+v", err, w.hub.Agents())
	}
}
