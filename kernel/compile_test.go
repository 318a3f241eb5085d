package kernel

import (
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func mustForward(t testing.TB, name, listen, to string, edit ...func(*forward.Forward)) *forward.Forward {
	t.Helper()
	l, err := forward.ParseListen(listen)
	if err != nil {
		t.Fatal(err)
	}
	target, err := forward.ParseTarget(to)
	if err != nil {
		t.Fatal(err)
	}
	f := &forward.Forward{Name: name, Listen: l, To: []forward.Target{target}, Carry: forward.CarryKernel}
	for _, e := range edit {
		e(f)
	}
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	return f
}
