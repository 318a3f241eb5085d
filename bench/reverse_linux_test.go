package main

import (
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/bench/load"
	"github.com/fairlead-net/fairlead/internal/netlab"
)

// The peer that is always there leads all its ports to the server's, over a line that is far, loses packets and is cut.
func TestReverse(t *testing.T) {
	if missing := absent("ssh", "sshd", "ssh-keygen", "ip"); missing != "" {
		t.Skipf("%s is not installed", missing)
	}
	b := newTestBench(t)
	b.seconds = 0.3 // some turns, with what a lost packet takes to be sent again
	f := b.newField(t)
	s := &reverseField{field: f}
	s.g, s.line = f.farGateway(t)
	s.cubic(t)
	keys, err := b.keysFor(t.Context(), s.g.Node, s.hubs())
	if err != nil {
		t.Fatal(err)
	}
	s.keys = keys
	r := &reverse{name: opensshName, start: startRemote, base: reverseBase}
	running, err := b.startReverse(t.Context(), nil, s, r, r.base)
	if err != nil {
		t.Fatal(err)
	}
	defer running.stop()
	s.line.Set(netlab.Quality{Delay: 2 * time.Millisecond, Loss: 0.001})
	for port, spec := range map[int]load.Spec{
		load.EchoPort:  {Kind: load.Request, Workers: 4, Size: 64},
		load.SinkPort:  {Kind: load.Bulk, Workers: 2, Size: 1 << 16},
		load.ClosePort: {Kind: load.Close, Workers: 2, Size: 64},
		load.FetchPort: {Kind: load.Fetch, Workers: 2, Size: 1 << 16},
	} {
		spec.Targets = []string{s.at(r.base, port)}
		if got, err := b.rate(t.Context(), f.client, spec, 1); err != nil || got.value == 0 {
			t.Errorf("%s: %+v, %v", spec.Kind, got, err)
		}
	}
	if _, err := b.growth(t.Context(), f, running.process.Pid(), 20, s.at(r.base, load.HoldPort)); err != nil {
		t.Errorf("hold: %v", err)
	}
	s.line.Set(netlab.Quality{})
	nobody := &reverse{name: "nobody", base: reverseBase + reverseEach}
	samples, errs, err := s.interrupt(t.Context(), []*reverse{r, nobody}, 50*time.Millisecond)
	if err != nil || errs[0] != nil || samples[0].errors > 0 || samples[0].value == 0 {
		t.Errorf("after a cut: %+v, %v, %v", samples, errs, err)
	}
	if errs[1] == nil {
		t.Error("a tunnel that nobody has started carries again")
	}
}
