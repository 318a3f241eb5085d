package main

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/fairlead-net/fairlead/hub"
	"github.com/fairlead-net/fairlead/node/agent"
	"github.com/fairlead-net/fairlead/relay"
	"github.com/fairlead-net/fairlead/tunnel"
)

// frozenWith is a session with streams that carry these descriptors.
func frozenWith(fds ...int) *agent.Frozen {
	s := &tunnel.Frozen{}
	for i, fd := range fds {
		s.Streams = append(s.Streams, tunnel.FrozenStream{Number: uint64(2 * i), FD: fd})
	}
	return &agent.Frozen{Session: s}
}

// TestLegacyRenumbered has all that is left speak of the same sockets by other numbers, in another process.
func TestLegacyRenumbered(t *testing.T) {
	left := func(n int) *legacy {
		return &legacy{
			Relay: &relay.Handover{Listeners: []relay.HandedListener{{FD: n}}, Clients: []relay.HandedClient{{FD: n + 1}}, Borne: []relay.HandedBorne{{Ticket: "x"}}},
			Hub: &hubLegacy{
				At: ":443", TCP: n + 2, UDP: n + 3,
				Agents: []hub.Frozen{{Far: frozenWith(n+4, -1, n+5)}, {Far: frozenWith()}, {Far: frozenWith(n + 6)}},
			},
			Agent: frozenWith(n + 7),
		}
	}
	data, err := json.Marshal(left(10))
	if err != nil {
		t.Fatal(err)
	}
	got := new(legacy)
	if err := json.Unmarshal(data, got); err != nil || !got.whole() {
		t.Fatalf("%+v, %v", got, err)
	}
	if want := []int{10, 11, 12, 13, 14, 15, 16, 17}; !reflect.DeepEqual(got.descriptors(), want) {
		t.Errorf("descriptors %v, want %v", got.descriptors(), want)
	}
	if err := got.renumber([]int{30, 31, 32}); err == nil {
		t.Error("too few are taken")
	}
	if err := got.renumber([]int{30, 31, 32, 33, 34, 35, 36, 37}); err != nil {
		t.Fatal(err)
	}
	if a, b := asJSON(t, got), asJSON(t, left(30)); a != b {
		t.Errorf("%s\nwant\n%s", a, b)
	}
	got.Hub.TCP = -1
	if n := len(got.descriptors()); n != 7 {
		t.Errorf("without a socket for TCP there are %d", n)
	}
	if few := got.listeners(); len(few.descriptors()) != 2 || few.Agent != nil {
		t.Errorf("listeners alone: %s", asJSON(t, few))
	}
	for _, broken := range []*legacy{{}, {Relay: &relay.Handover{}, Agent: &agent.Frozen{}}, {Relay: &relay.Handover{}, Hub: &hubLegacy{Agents: []hub.Frozen{{}}}}} {
		if broken.whole() {
			t.Errorf("%s passes for whole", asJSON(t, broken))
		}
	}
}

func asJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}
