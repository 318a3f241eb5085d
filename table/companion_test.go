package table

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

func TestCompanions(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		from := func(s ...string) config.Spec { return config.Spec{From: s} }
		h.replace(
			webEverywhere(h.t, "all", "tcp+udp/80", config.Spec{}),
			webEverywhere(h.t, "web-2", "81", from("127.0.0.0/8", "192.0.2.0/24")),
			webEverywhere(h.t, "web", "82", config.Spec{Except: config.Strings{"10.0.0.0/8", "::1"}}),
			webEverywhere(h.t, "clients", "83", from("192.0.2.0/24")),
			webEverywhere(h.t, "iface", "84", config.Spec{Interface: "wan"}),
			webEverywhere(h.t, "kept", "85", config.Spec{Source: "keep"}),
			webEverywhere(h.t, "one", "203.0.113.5:86", config.Spec{}),
			webEverywhere(h.t, "wide", "1000-1016", config.Spec{}),
			webEverywhere(h.t, "dmz", "*", config.Spec{}),
			webEverywhere(h.t, "ftp", "21", config.Spec{Helper: "ftp"}),
			webEverywhere(h.t, "sip", "5060", config.Spec{Helper: "sip"}),
			spec(h.t, "pair", forward.OriginFile, config.Spec{Listen: "88", To: config.Strings{"192.168.1.10:8080", "192.168.1.11:8080"}, Balance: "source"}),
			spec(h.t, "here", forward.OriginFile, config.Spec{Listen: "87", To: config.Strings{":8443"}}),
		)
		h.wantCarried("all clients dmz ftp here iface kept one pair sip web web-2 wide", "all/lo4 all/lo6 ftp/lo4 ftp/lo6 pair/lo4 pair/lo6 web-2/lo4 web/lo4 web/lo6")
		lo := h.relay.get("all/lo6")
		if lo.Listen.String() != "tcp+udp/[::]:80" || lo.To[0].String() != "192.168.1.10:8080" || lo.Carry != forward.CarryRelay {
			h.t.Errorf("all/lo6: %+v", lo)
		}
		if ftp := h.relay.get("ftp/lo6"); ftp.Helper != forward.HelperFTP {
			h.t.Errorf("ftp/lo6: %+v", ftp)
		}
		if pair := h.relay.get("pair/lo4"); len(pair.To) != 2 || pair.Balance != forward.BalanceSource {
			h.t.Errorf("pair/lo4: %+v", pair)
		}
		if web := h.relay.get("web/lo6"); len(web.Except) != 1 || web.Except[0].String() != "::1/128" {
			h.t.Errorf("web/lo6: %+v", web)
		}
		h.put(viaRelay(h.t, "other", forward.OriginAPI, "99"))
		if h.relay.get("all/lo6") != lo {
			h.t.Error("a companion got a new pointer for nothing")
		}

		// Its traffic counts for the forward; its troubles do not.
		h.relay.refuse("all/lo4", errBusy)
		h.kernel.pass("all", total(4))
		h.relay.pass("all/lo4", total(2))
		h.relay.pass("all/lo6", total(2))
		h.put(viaRelay(h.t, "more", forward.OriginAPI, "98"))
		h.wantTotal("all", 8)
		if got := h.look(); strings.Contains(got, "failed") || strings.Contains(got, "/") {
			h.t.Errorf("companions show: %s", got)
		}

		// Whoever asks for the port gets it, and gives it back.
		for _, listen := range []string{"127.0.0.1:80", "udp/[::1]:70-90", "0.0.0.0:80", "80"} {
			h.put(spec(h.t, "user", forward.OriginAPI, config.Spec{Listen: listen, To: config.Strings{"app:1"}, From: config.Strings{"127.0.0.8", "::1"}}))
			if h.relay.get("all/lo4") != nil || h.relay.get("all/lo6") != nil {
				h.t.Errorf("companions on a port that %s needs: %s", listen, h.relay.has())
			}
			h.relay.forget("all/lo4", "all/lo6")
			h.wantTotal("all", 8)
			if err := h.Delete(h.t.Context(), "user"); err != nil {
				h.t.Error(err)
			}
			if h.relay.get("all/lo4") == nil || h.relay.get("all/lo6") == nil {
				h.t.Errorf("no companions again: %s", h.relay.has())
			}
		}
	})
}

func TestCompanionsAreFew(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		var list []*forward.Forward
		for i := range 100 {
			list = append(list, webEverywhere(h.t, fmt.Sprintf("f%03d", i), fmt.Sprint(1000+i), config.Spec{}))
		}
		h.replace(list...)
		has := func(name string) bool { return h.relay.get(name+"/lo4") != nil && h.relay.get(name+"/lo6") != nil }
		if got := len(h.relay.want); got != maxCompanions || !has("f063") || has("f064") {
			h.t.Errorf("%d companions: %s", got, h.relay.has())
		}
		f063 := h.relay.get("f063/lo4")
		list = append(list, webEverywhere(h.t, "a", "999", config.Spec{})) // who comes later does not push out who is there
		h.replace(list...)
		if has("a") || h.relay.get("f063/lo4") != f063 {
			h.t.Error("a newcomer took the place of another")
		}
		h.replace(list[1:]...)
		if !has("a") || has("f000") || h.relay.get("f063/lo4") != f063 {
			h.t.Errorf("a place that was freed went to nobody: %s", h.relay.has())
		}
	})
}

func TestOneCompanionAPort(t *testing.T) {
	inHouse(t, func(h *house) {
		h.start()
		h.replace(
			webEverywhere(h.t, "a", "80", config.Spec{From: config.Strings{"127.0.0.0/8"}}),
			webEverywhere(h.t, "b", "79-81", config.Spec{}),
		)
		h.wantCarried("a b", "a/lo4")
	})
}
