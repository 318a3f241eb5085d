package e2e

import (
	"strings"
	"testing"
)

// TestStrangeSNAT names an address that the WAN does not have: check, the log and status say so until it has.
func TestStrangeSNAT(t *testing.T) {
	needs(t, "nft")
	h := newHome(t)
	d := up(t, h.router, "[gateway]\nwan = \"wan\"\nlan = \"lan\"\nsnat = \"198.41.0.77\"\n")
	const missing = "snat: no interface of this host has 198.41.0.77 now"
	if out := d.run("check", "-c", d.file()); !strings.Contains(out, missing) || !strings.Contains(out, "ip addr add 198.41.0.77/32 dev wan") {
		t.Errorf("check says:\n%s", out)
	}
	if out := d.run("status"); !strings.Contains(out, "problem: "+missing) {
		t.Errorf("status says:\n%s", out)
	}
	if said := d.proc.Output(); !strings.Contains(said, missing) {
		t.Errorf("the log says:\n%s", said)
	}
	h.router.Address(t, "lan", "198.41.0.77/32")
	if out := d.run("status"); !strings.Contains(out, "problem: snat: 198.41.0.77 is the address of lan, which is not the WAN") {
		t.Errorf("status says:\n%s", out)
	}
	h.router.Run(t, "ip", "addr", "del", "198.41.0.77/32", "dev", "lan")
	h.router.Address(t, "wan", "198.41.0.77/32")
	if out := d.run("status"); strings.Contains(out, "problem") {
		t.Errorf("status says:\n%s", out)
	}
	h.wan.Echo(t, ":5000")
	if got, err := h.anna.Call(t.Context(), "tcp", wanAddr+":5000"); err != nil || got.You.Addr().String() != "198.41.0.77" {
		t.Errorf("anna is seen as %s, %v", got.You, err)
	}
}
