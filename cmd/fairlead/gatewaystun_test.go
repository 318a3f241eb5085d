package main

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/portmap/behaviour"
)

func TestParseSTUN(t *testing.T) {
	for text, want := range map[string]stunServer{
		"stun.example.com":       {"stun.example.com", 3478},
		"stun.example.com:19302": {"stun.example.com", 19302},
		"stun:stun.example.com":  {"stun.example.com", 3478},
		"198.41.0.9":             {"198.41.0.9", 3478},
		"198.41.0.9:5478":        {"198.41.0.9", 5478},
		"2001:db8::9":            {"2001:db8::9", 3478},
		"[2001:db8::9]":          {"2001:db8::9", 3478},
		"stun:[2001:db8::9]:53":  {"2001:db8::9", 53},
	} {
		if got, err := parseSTUN(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v; want %+v", text, got, err, want)
		}
	}
}

// TestSTUNWords wants words for all that can be found.
func TestSTUNWords(t *testing.T) {
	at := netip.MustParseAddrPort
	r := stunReport{name: "198.41.0.9:3478", Report: behaviour.Report{
		Server: at("198.41.0.9:3478"), Local: at("192.168.1.20:40000"), Public: at("198.41.0.4:40000"), Hairpin: behaviour.HairpinNo}}
	for _, r.Mapping = range []behaviour.Rule{behaviour.None, behaviour.Endpoint, behaviour.Address, behaviour.AddressPort} {
		for _, r.Filter = range []behaviour.Rule{behaviour.Endpoint, behaviour.Address, behaviour.AddressPort} {
			var b bytes.Buffer
			r.print(&b)
			if strings.Count(b.String(), ": ") != 5 || strings.Contains(b.String(), "unknown") {
				t.Errorf("%v, %v:\n%s", r.Mapping, r.Filter, b.String())
			}
		}
	}
	r.Mapping, r.Filter, r.Missing = behaviour.Unknown, behaviour.Unknown, "nobody knows"
	var b bytes.Buffer
	r.print(&b)
	const want = `STUN 198.41.0.9:3478: 192.168.1.20:40000 is 198.41.0.4:40000 outside
  mapping    unknown
  filtering  unknown
  hairpin    no: hosts of this network do not reach each other by their addresses outside
  for games  unknown
  nobody knows
`
	if b.String() != want {
		t.Errorf("%s", b.String())
	}
}
