package grant

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/portmap"
)

// TestAltered tells of mappings of PCP that somebody else than their client has ended or moved, and of nothing else.
func TestAltered(t *testing.T) {
	inHouse(t, &portmap.Spec{MinLife: time.Second}, func(h *house) {
		told := func(want ...string) {
			t.Helper()
			list, more := h.Altered()
			select {
			case <-more:
			default:
			}
			var got []string
			for _, a := range list {
				text := fmt.Sprint(a.Internal, " ", a.Public)
				if a.Gone {
					text = fmt.Sprint(a.Internal, " gone")
				}
				got = append(got, text)
			}
			if g, w := strings.Join(got, ", "), strings.Join(want, ", "); g != w {
				t.Errorf("told of %q, want %q", g, w)
			}
		}
		for _, what := range []string{"pcp tcp 192.168.1.20:80", "pcp tcp 192.168.1.20:81", "pcp tcp 192.168.1.20:82", "pcp tcp 192.168.1.30:83", "natpmp tcp 192.168.1.30:84", "pcp tcp [2001:db8:1::20]:85"} {
			h.ask(what)
		}
		h.ask("pcp tcp 192.168.1.20:80") // renewed
		told()
		if err := h.Unmap(context.Background(), one, request(t, "pcp tcp 192.168.1.20:80").Key); err != nil {
			t.Error(err)
		}
		told()
		short := request(t, "pcp tcp 192.168.1.20:86")
		short.Lifetime = 2 * time.Second
		h.Map(context.Background(), []portmap.Request{short})
		elapse(5 * time.Second) // it ends as its client knows
		told()
		if err := h.table.Delete(context.Background(), "lease-192.168.1.20-tcp-81"); err != nil {
			t.Error(err)
		}
		told("192.168.1.20:81 gone")
		told()
		if _, err := h.Deny(context.Background(), "192.168.1.30"); err != nil {
			t.Error(err)
		}
		told("192.168.1.30:83 gone")
		h.goTo(Outside{Addr: netip.MustParseAddr("203.0.113.9")})
		told("192.168.1.20:82 203.0.113.9:82")
		h.goTo(Outside{})
		h.goTo(Outside{Addr: netip.MustParseAddr("203.0.113.9")})
		told()
		h.goTo(Outside{Addr: netip.MustParseAddr("203.0.113.9"), Public: netip.MustParseAddr("198.51.100.1")})
		told("192.168.1.20:82 198.51.100.1:82")
		h.replace(admin(t, "op", "82"))
		told("192.168.1.20:82 gone")
		h.ask("pcp tcp 192.168.1.20:87")
		h.replace()
		h.Configure(nil)
		elapse(time.Second)
		told("192.168.1.20:87 gone", "[2001:db8:1::20]:85 gone")
		if len(h.Book.news.leaving) != 0 {
			t.Errorf("still leaving: %v", h.Book.news.leaving)
		}
	})
}

// TestNewsIsBounded keeps what there is room for.
func TestNewsIsBounded(t *testing.T) {
	n := newNews()
	f := admin(t, "x", "80")
	for i := range maxNews + 10 {
		g := *f
		g.Name = fmt.Sprint(i)
		n.add(&g, true)
	}
	if len(n.list) != maxNews {
		t.Errorf("%d pieces", len(n.list))
	}
}
