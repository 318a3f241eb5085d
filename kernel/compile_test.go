package kernel

import (
	"os"
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

func TestX(t *testing.T) {
	rs, bad := Compile("fairlead", []*forward.Forward{
		mustForward(t, "web", "80", "192.168.1.10:8080"),
		mustForward(t, "web6", "[2001:db8::1]:80", "[fd00::1]:8080"),
		mustForward(t, "game", "tcp+udp/27015-27030", "192.168.1.20"),
		mustForward(t, "shift", "9000-9003", "192.168.1.20:7000-7003"),
		mustForward(t, "app", "443", ":8443"),
		mustForward(t, "dmz", "tcp+udp/*", "192.168.1.50"),
	}, []string{"eth0"})
	t.Log(bad)
	rs.WriteNFT(os.Stdout)
}
