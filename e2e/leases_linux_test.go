package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// A leaseStatus is what `fairlead leases --json` says of one.
type leaseStatus struct {
	Name, Client, MAC, Hostname, Description, Protocol, Network, Internal, External, State string

	Remaining   int
	Connections struct{ Total int }
	Bytes       struct{ In int }
}

func (d *daemon) leases() map[string]leaseStatus {
	d.t.Helper()
	var out struct{ Leases []leaseStatus }
	text := d.run("leases", "--json")
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		d.t.Fatalf("%v: %s", err, text)
	}
	all := map[string]leaseStatus{}
	for _, l := range out.Leases {
		all[l.Name] = l
	}
	return all
}

const askingConfig = `
[gateway]
wan = "wan"
lan = "lan"

[gateway.portmap]
ask = true
deny = "* 6666"
`

// TestLeases has programs of a LAN ask for ports, an operator who is asked, and a daemon that is stopped, killed and started again.
func TestLeases(t *testing.T) {
	needs(t, "natpmpc", "upnpc", "nft")
	h := newHome(t)
	h.anna.Echo(t, ":3074")
	h.ben.Echo(t, ":3074")
	d := up(t, h.router, askingConfig)
	const annas, bens = "lease-192.168.1.20-udp-3074", "lease-192.168.1.21-udp-3074"
	natpmp := func(by *netlab.Node, internal, external int) string {
		return by.Run(t, "natpmpc", "-g", innerAddr, "-a", fmt.Sprint(external), fmt.Sprint(internal), "udp", "3600")
	}
	reaches := func(port int, who string) {
		t.Helper()
		got, err := h.wan.Call(t.Context(), "udp", fmt.Sprintf("%s:%d", outerAddr, port))
		if name := got.Node; err == nil && name != who || err != nil && who != "" {
			t.Errorf("udp port %d is answered by %q (%v), want %q", port, name, err, who)
		}
	}
	if out := natpmp(h.anna, 3074, 3074); !strings.Contains(out, "Mapped public port 3074") {
		t.Fatal(out)
	}
	l := d.leases()[annas]
	if l.State != "asking" || l.Client != annaAddr || len(l.MAC) != 17 || l.Protocol != "natpmp" || l.Network != "udp" ||
		l.Internal != annaAddr+":3074" || l.External != outerAddr+":3074" || l.Remaining < 3500 || l.Remaining > 3600 {
		t.Errorf("%+v", l)
	}
	reaches(3074, "")
	if out := d.run("leases"); !strings.Contains(out, "asking") || !strings.Contains(out, "fairlead leases approve "+annas) {
		t.Error(out)
	}
	if out := d.run("leases", "approve", l.MAC); !strings.Contains(out, annas) {
		t.Error(out)
	}
	reaches(3074, "anna")
	d.run("leases", "approve", benAddr)
	if out := natpmp(h.ben, 3074, 3074); !strings.Contains(out, "Mapped public port 3075") {
		t.Error(out)
	}
	reaches(3075, "ben")
	if out := natpmp(h.ben, 7, 6666); !strings.Contains(out, "Mapped public port 6667") {
		t.Error(out)
	}
	// By another protocol it is the same lease.
	if out := h.anna.Run(t, "upnpc", "-e", "console", "-a", annaAddr, "3074", "3074", "udp", "3600"); !strings.Contains(out, "is redirected to") {
		t.Error(out)
	}
	if l := d.leases()[annas]; l.State != "up" || l.Description != "console" || l.Protocol != "natpmp" || l.Connections.Total != 1 || l.Bytes.In == 0 {
		t.Errorf("%+v", l)
	}

	if err := d.proc.Stop(); err != nil {
		t.Error(err)
	}
	d.start()
	reaches(3074, "anna")
	reaches(3075, "ben")
	l = d.leases()[annas]
	if l.State != "up" || l.Description != "console" || l.Remaining < 3500 || l.Connections.Total != 2 {
		t.Errorf("after a restart: %+v", l)
	}
	if out := h.anna.Run(t, "natpmpc", "-g", innerAddr, "-a", "5000", "5000", "udp", "3600"); !strings.Contains(out, "5000") {
		t.Error(out)
	}
	if l := d.leases()["lease-192.168.1.20-udp-5000"]; l.State != "up" {
		t.Errorf("who was approved is asked for again: %+v", l)
	}

	if out := d.run("rm", annas); !strings.Contains(out, "removed") {
		t.Error(out)
	}
	if l, there := d.leases()[annas]; there {
		t.Errorf("it is still there: %+v", l)
	}
	if out := d.run("leases", "deny", bens); !strings.Contains(out, "denied") {
		t.Error(out)
	}
	reaches(3075, "")
	if out, err := h.ben.Command(t.Context(), "natpmpc", "-g", innerAddr, "-a", "3075", "3074", "udp", "3600").CombinedOutput(); err == nil {
		t.Errorf("it was denied, and is mapped: %s", out)
	}
	if _, err := d.try("leases", "approve", "nobody"); err == nil {
		t.Error("nobody was approved")
	}
	// The operator's own comes first.
	d.write(askingConfig + "\n[forward.games]\nlisten = \"udp/5000-5010\"\nto = \"" + benAddr + ":3074\"\n")
	d.run("apply", "-c", d.file())
	reaches(5000, "ben")
	if _, there := d.leases()["lease-192.168.1.20-udp-5000"]; there {
		t.Error("a lease has a port of the operator's")
	}
}
