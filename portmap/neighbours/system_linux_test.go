package neighbours

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

func TestSystem(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:7")
	for _, addr := range []string{netlab.Server4, netlab.Server6} {
		if _, err := lab.Router.Call(t.Context(), "udp", netip.AddrPortFrom(netip.MustParseAddr(addr), 7).String()); err != nil {
			t.Fatal(err)
		}
	}
	found := map[netip.Addr]string{}
	err := lab.Router.Do(func() error {
		return system(func(addr netip.Addr, mac string) { found[addr] = mac })
	})
	a, b := found[netip.MustParseAddr(netlab.Server4)], found[netip.MustParseAddr(netlab.Server6)]
	if err != nil || len(a) != 17 || a != b {
		t.Errorf("%v (%v)", found, err)
	}
}

func FuzzDump(f *testing.F) {
	dump := []byte{
		48, 0, 0, 0, 28, 0, 2, 0, 1, 0, 0, 0, 1, 0, 0, 0, // nlmsghdr
		2, 0, 0, 0, 3, 0, 0, 0, 2, 0, 0, 1, // ndmsg
		8, 0, 1, 0, 192, 168, 1, 20, 10, 0, 2, 0, 2, 0, 0, 0, 0, 32, 0, 0, // NDA_DST, NDA_LLADDR
	}
	f.Add(dump)
	f.Add(dump[:30])
	f.Fuzz(func(t *testing.T, dump []byte) {
		_ = parseDump(dump, func(addr netip.Addr, mac string) {
			if !addr.IsValid() || len(mac) != 17 {
				t.Fatalf("%s %q", addr, mac)
			}
		})
		parseNeighbour(dump, func(netip.Addr, string) {})
	})
}
