package hub

import (
	"context"
	"encoding/json"
	"net"
	"runtime"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/agent"
)

// TestAnotherProcessGoesOn has the agents of a hub be another's, with the streams that the hub dialled for them and the places that they listen
// at. What is between the two is plain data.
func TestAnotherProcessGoesOn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sessions carry sockets on Linux alone")
	}
	w := newWorld(t, nil)
	target := w.target()
	w.enrol(anna, "anna", Limits{Targets: []forward.Rule{{Host: "localhost"}}})
	w.enrol(ben, "ben", Limits{Targets: []forward.Rule{{Host: "localhost"}}})
	a, b := w.run(anna, nil), w.run(ben, nil)
	l := w.listen(a, "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	dial := func(m *machine) net.Conn {
		c, err := m.Dial(ctx, "tcp", target)
		if err != nil {
			t.Fatal(err)
		}
		if err := says(c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	kept, lost := dial(a), dial(b)
	defer kept.Close()
	for range 2 {
		data, err := json.Marshal(w.hub.Freeze())
		if err != nil {
			t.Fatal(err)
		}
		w.stop()
		if len(w.doors.Open()) != 1 {
			t.Errorf("it listens at %v", w.doors.Open())
		}
		if rec, ok := w.hub.o.Registry.Named("ben"); ok {
			if err := w.hub.o.Registry.Revoke(rec.Key, noon); err != nil {
				t.Fatal(err)
			}
		}
		var list []Frozen
		if err := json.Unmarshal(data, &list); err != nil {
			t.Fatal(err)
		}
		w.beginWith(nil, func(h *Hub) { h.Thaw(list, nil, nil) })
		if err := says(kept); err != nil {
			t.Fatalf("a stream that the hub dialled: %v", err)
		}
		w.dial(l.Addr().String())
		if s := w.hub.Agents()[0]; s.State != StateUp || s.Forwards != 1 || s.Sessions < 1 {
			t.Errorf("%+v", s)
		}
	}
	w.ends("of an agent that was revoked meanwhile", lost)
	if !l.(node.Stated).State().Up {
		t.Error("the listener does not listen")
	}
	if err := w.limit("anna", Limits{}); err != nil {
		t.Fatal(err)
	}
	w.ends("with targets taken away", kept)
}

// TestUnansweredIsAskedAgain has what an agent opened, and a hub that was about to leave did not look at, be answered by the next one.
func TestUnansweredIsAskedAgain(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sessions carry sockets on Linux alone")
	}
	w := newWorld(t, nil)
	target := w.target()
	w.enrol(anna, "anna", Limits{Targets: []forward.Rule{{Host: "localhost"}}})
	a := w.run(anna, nil)
	w.eventually("the agent is there", func() bool { return a.State().Up })
	w.hub.Quiet()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	type result struct {
		c   net.Conn
		err error
	}
	dialled := make(chan result, 1)
	go func() {
		c, err := a.Dial(ctx, "tcp", target)
		dialled <- result{c, err}
	}()
	w.eventually("the stream is open", func() bool { return a.Session().Status().Streams > 0 })
	w.listen(a, "127.0.0.1:0") // what was said before this was heard
	data, err := json.Marshal(w.hub.Freeze())
	if err != nil {
		t.Fatal(err)
	}
	w.stop()
	select {
	case r := <-dialled:
		t.Fatalf("answered by nobody: %+v", r)
	default:
	}
	var list []Frozen
	if err := json.Unmarshal(data, &list); err != nil {
		t.Fatal(err)
	}
	w.beginWith(nil, func(h *Hub) { h.Thaw(list, nil, nil) })
	r := <-dialled
	if r.err != nil {
		t.Fatal(r.err)
	}
	defer r.c.Close()
	if err := says(r.c); err != nil {
		t.Error(err)
	}
}

// TestAnAgentRestarts is the same for an agent: streams that it dialled for the hub go on, and what it listened at is its own again.
func TestAnAgentRestarts(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("sessions carry sockets on Linux alone")
	}
	w := newWorld(t, nil)
	target := w.target()
	w.enrol(anna, "anna", Limits{})
	w.enrol(ben, "ben", Limits{Reach: []string{"anna"}})
	allow := func(o *agent.HubOptions) { o.Allow = []agent.Allow{{Rule: forward.Rule{Host: "localhost"}}} }
	a, b := w.run(anna, allow), w.run(ben, nil)
	first, second := w.listen(a, "127.0.0.1:0"), w.listen(a, "127.0.0.1:0")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	c, err := b.Agent("anna").Dial(ctx, "tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := says(c); err != nil {
		t.Fatal(err)
	}
	fr, err := a.Freeze()
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(fr)
	if err != nil {
		t.Fatal(err)
	}
	a.stop()
	a2 := w.runWith(anna, allow, func(h *agent.Hub) {
		var fr agent.Frozen
		if err := json.Unmarshal(data, &fr); err != nil {
			t.Fatal(err)
		}
		if _, err := h.Thaw(t.Context(), &fr, nil); err != nil {
			t.Error(err)
		}
	})
	if err := says(c); err != nil {
		t.Errorf("a stream that the agent dialled: %v", err)
	}
	again := map[string]bool{}
	for range 2 {
		l := w.listen(a2, "127.0.0.1:0")
		again[l.Addr().String()] = true
		w.dial(l.Addr().String())
	}
	if !again[first.Addr().String()] || !again[second.Addr().String()] {
		t.Errorf("it listened at %s and %s, and now at %v", first.Addr(), second.Addr(), again)
	}
}
