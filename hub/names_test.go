package hub

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/testport"
	"github.com/fairlead-net/fairlead/node"
)

// TestNames has agents ask for names: those that they may have, at ports that they may not have as a whole.
func TestNames(t *testing.T) {
	text, err := testport.Free()
	if err != nil {
		t.Fatal(err)
	}
	listen, err := forward.ParseListen("127.0.0.1:" + fmt.Sprint(text))
	if err != nil {
		t.Fatal(err)
	}
	own := listen.Ports.Ranges[0].First
	w := newWorld(t, func(o *Options) { o.Shared = func() (uint16, string) { return own, "hub.example.com" } })
	w.enrol(anna, "anna", Limits{Ports: []forward.Range{}, Hosts: []string{"blog.example.com", "*.home.example.com", "hub.example.com"}})
	m := w.run(anna, nil)
	ask := func(l forward.Listen, names ...string) net.Listener {
		t.Helper()
		ln, err := m.ListenNamed(t.Context(), forward.Door{Listen: l, Hosts: names})
		if err != nil {
			t.Fatal(err)
		}
		return ln
	}
	why := func(ln net.Listener, part string) {
		t.Helper()
		w.eventually(part, func() bool { return strings.Contains(ln.(node.Stated).State().Why, part) })
		w.eventually(part+", as an answer", func() bool { // at first it may have been said unasked
			n, err := ln.(interface{ Refused() (int, error) }).Refused()
			return n > 0 && err != nil
		})
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
	other := listen
	other.Ports = forward.Ports{Ranges: []forward.Range{{First: own - 1, Last: own - 1}}}
	why(ask(listen, "shop.example.com"), "the name shop.example.com is not permitted; the names are blog.example.com")
	why(ask(listen, "blog.example.com", "home.example.com"), "the name home.example.com is not permitted")
	why(ask(listen, "hub.example.com"), "the hub's own")
	why(ask(other, "blog.example.com"), "no port is permitted")
	ln := ask(listen, "blog.example.com", "a.home.example.com")
	w.eventually("the hub listens", func() bool { return ln.(node.Stated).State().Up })
	if open := w.doors.Open(); len(open) != 1 {
		t.Errorf("%v", open)
	}
	if err := w.hub.ChangeLimits("anna", func(l Limits) Limits { l.Hosts = []string{"blog.example.com"}; return l }); err != nil {
		t.Fatal(err)
	}
	w.eventually("it does so no longer", func() bool { return len(w.doors.Open()) == 0 })
	why(ln, "the name a.home.example.com is not permitted")
}
