package kernel_test

import (
	"net"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// TestPinholes lets addresses of the LAN be called as they are: counted, listed, ended and limited as any forward.
func TestPinholes(t *testing.T) {
	h := newHome(t)
	h.ann.Echo(t, "[::]:8080")
	h.ann.Echo(t, "[::]:8081")
	h.bob.Echo(t, "[::]:8080")
	h.zoe.Echo(t, "[::]:8080")
	h.zoe.Echo(t, "[::]:8085")
	c, g := newCarrier(t, h.gate), newGateway(t, h.gate, "")
	spec := h.router()
	spec.Masquerade = false // the LAN has public addresses, as it were
	forwards := fwds(t, "ann6 tcp+udp/["+ann6+"]:8080 "+ann6, "bob6 ["+bob6+"]:8080 ["+bob6+"]:8080 from=2001:db8:1::/64 except="+two6+"/128",
		"ann4 tcp+udp/"+ann4+":8080 "+ann4+":8080", "zoe6 tcp+udp/["+zoe6+"]:8080-8089 "+zoe6, "zoe4 "+zoe4+":* "+zoe4, "plain 80 "+ann4+":8080")
	c.apply(forwards)
	g.apply(spec, nil, forwards)
	for _, v := range []visit{
		{by: h.one, to: tcp(ann6, 8080), node: "ann", seen: "client"}, {by: h.one, to: udp(ann6, 8080), node: "ann", seen: "client"},
		{by: h.one, to: tcp(bob6, 8080), node: "bob", seen: "client"}, {by: h.one, to: tcp(ann4, 8080), node: "ann", seen: "client"},
		{by: h.two, to: udp(ann4, 8080), node: "ann", seen: "client"}, {by: h.one, to: tcp(zoe6, 8085), node: "zoe", seen: "client"},
		{by: h.one, to: udp(zoe6, 8080), node: "zoe", seen: "client"}, {by: h.one, to: tcp(zoe4, 8085), node: "zoe", seen: "client"},
		{by: h.one, to: tcp(gate4, 80), node: "ann", seen: "client"}, {by: h.bob, to: tcp(zoe6, 8080), node: "zoe", seen: "client"},
		{by: h.zoe, to: tcp(ann6, 8080), node: "ann", seen: "client"},
	} {
		v.check(t)
	}
	closed(t, visit{by: h.two, to: tcp(bob6, 8080)}, visit{by: h.one, to: tcp(ann6, 8081)}, visit{by: h.one, to: tcp(ann4, 8081)}, visit{by: h.one, to: udp(zoe4, 8080)},
		visit{by: h.one, to: tcp(bob4, 8080)})
	want := map[string]uint64{"ann6": 3, "bob6": 1, "ann4": 2, "zoe6": 3, "zoe4": 1, "plain": 1}
	for name, s := range c.stats() {
		if s.Total != want[name] || s.BytesIn < 100 || s.BytesOut < 100 {
			t.Errorf("%s counted %+v", name, s)
		}
	}

	open := func(network, to string) net.Conn {
		conn, err := h.one.Dial(t.Context(), network, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		say(t, conn, "open", "open")
		return conn
	}
	killed, left, removed, flow := open("tcp", at(ann6, 8080)), open("tcp", at(ann6, 8080)), open("tcp", at(bob6, 8080)), open("udp", at(ann6, 8080))
	for _, s := range h.sessions(t, c) {
		if s.Client == killed.LocalAddr().String() && s.Network == forward.TCP {
			if s.Forward != "ann6" || s.Target != at(ann6, 8080) {
				t.Errorf("the session is %+v", s)
			}
			on(t, h.gate, "kill", func() error { return c.Kill(s.ID) })
		}
	}
	dead(t, killed)
	say(t, left, "alive", "alive")
	say(t, flow, "alive", "alive")
	if got := c.stats()["ann6"]; got.Open < 2 {
		t.Errorf("open: %+v", got)
	}

	// One goes, whose target goes on to speak: neither side brings it back.
	forwards = fwds(t, "ann6 tcp+udp/["+ann6+"]:8080 "+ann6, "other6 ["+bob6+"]:8081 "+bob6)
	g.apply(spec, nil, forwards)
	c.apply(forwards)
	dead(t, removed)
	say(t, left, "still alive", "still alive")
	closed(t, visit{by: h.one, to: tcp(bob6, 8080)})

	// A restarted daemon whose file no longer has one ends its sessions, too.
	_ = h.gate.Do(c.Close)
	next := newCarrier(t, h.gate)
	forwards = fwds(t, "other6 ["+bob6+"]:8081 "+bob6)
	g.apply(spec, nil, forwards)
	next.apply(forwards)
	dead(t, left)
}

func (h *home) sessions(t *testing.T, c carrier) (list []forward.Session) {
	t.Helper()
	on(t, h.gate, "sessions", func() (err error) { list, err = c.Sessions(); return err })
	return list
}

// dead checks that a connection was ended: nothing that is sent comes back.
func dead(t *testing.T, conn net.Conn) {
	t.Helper()
	_ = conn.SetDeadline(soon())
	_, _ = conn.Write([]byte("anybody?"))
	if n, err := conn.Read(make([]byte, 100)); err == nil {
		t.Errorf("%s: a session that was ended still answers (%d bytes)", conn.RemoteAddr(), n)
	}
}

// TestPinholeAnswersWithReset ends a session without any protection by the gateway's table: the next packet of either side is
// answered with a reset.
func TestPinholeAnswersWithReset(t *testing.T) {
	h := newHome(t)
	h.gate.Forwarding(t)
	ln, err := h.ann.Listen("tcp", at(ann6, 8080))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := newCarrier(t, h.gate)
	c.apply(fwds(t, "ann6 ["+ann6+"]:8080 "+ann6))
	for _, speaker := range []string{"client", "target"} {
		client, err := h.one.Dial(t.Context(), "tcp", at(ann6, 8080))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		target, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer target.Close()
		for _, s := range h.sessions(t, c) {
			on(t, h.gate, "kill", func() error { return c.Kill(s.ID) })
		}
		who := map[string]net.Conn{"client": client, "target": target}[speaker]
		_ = who.SetDeadline(soon())
		_, _ = who.Write([]byte("x"))
		if _, err := who.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
			t.Errorf("the %s speaks: %v", speaker, err)
		}
	}
}
