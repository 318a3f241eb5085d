package igd

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

const (
	host6  = "2001:db8:1::10"
	other6 = "2001:db8:1::11"
	holes6 = upnp.WANIPv6FirewallControl + ":1"
)

func (l *lab) hole(client, action string, args upnp.Args) (upnp.Args, int) {
	l.t.Helper()
	return l.call(client, gateway6, "holes", holes6, action, args)
}

func id(text string, lease string) upnp.Args {
	return upnp.Args{{Name: "UniqueID", Value: text}, {Name: "NewLeaseTime", Value: lease}}
}

func TestPinholes(t *testing.T) {
	desk := newDesk()
	packets := uint64(0)
	o := testOptions(t, desk, 1)
	o.Packets = func(portmap.Mapping) (uint64, bool) { return packets, true }
	l := newLab(t, o)
	good := upnp.Pinhole{InternalClient: host6, InternalPort: 80, Protocol: 6, Lease: 3600}
	out, code := l.hole(host6, upnp.AddPinhole, good.Args())
	number := out.Of("UniqueID")
	if code != 0 || number == "" {
		t.Fatalf("%v, %d", out, code)
	}
	got := desk.last()
	want := portmap.Request{
		Protocol: portmap.UPnP, Key: portmap.Key{Network: forward.TCP, Internal: netip.MustParseAddrPort("[" + host6 + "]:80")}, Client: netip.MustParseAddr(host6),
		Interface: "flnone0", External: 80, Exact: true, Lifetime: time.Hour,
	}
	if !equalRequests(got, want) || got.From != nil {
		t.Errorf("%+v\n%+v", got, want)
	}
	if again, code := l.hole(host6, upnp.AddPinhole, good.Args()); code != 0 || again.Of("UniqueID") != number {
		t.Errorf("the same pinhole again: %v, %d; it was %s", again, code, number)
	}

	for _, test := range []struct {
		client, action string
		args           upnp.Args
		code           int
	}{
		{other6, upnp.UpdatePinhole, id(number, "60"), 606},
		{other6, upnp.DeletePinhole, id(number, ""), 606},
		{other6, upnp.GetPinholePackets, id(number, ""), 606},
		{host6, upnp.UpdatePinhole, id(number, "0"), 402},
		{host6, upnp.UpdatePinhole, id(number, "86401"), 402},
		{host6, upnp.UpdatePinhole, id("x", "60"), 402},
		{host6, upnp.UpdatePinhole, id(number, "60"), 0},
		{host6, upnp.CheckPinholeWorking, id(number, ""), 709},
		{host6, upnp.GetPinholePackets, id(number, ""), 0},
		{host6, upnp.GetFirewallStatus, nil, 0},
		{host6, "GetOutboundPinholeTimeout", nil, 401},
	} {
		if _, code := l.hole(test.client, test.action, test.args); code != test.code {
			t.Errorf("%s by %s: %d, want %d", test.action, test.client, code, test.code)
		}
	}
	if got := desk.last(); got.Lifetime != time.Minute || got.Internal != want.Internal {
		t.Errorf("%+v", got)
	}
	packets = 5
	if out, code := l.hole(host6, upnp.CheckPinholeWorking, id(number, "")); code != 0 || out.Of("IsWorking") != "1" {
		t.Errorf("%v, %d", out, code)
	}
	if out, _ := l.hole(host6, upnp.GetPinholePackets, id(number, "")); out.Of("PinholePackets") != "5" {
		t.Error(out)
	}
	for _, want := range []int{0, 704} {
		if _, code := l.hole(host6, upnp.DeletePinhole, id(number, "")); code != want {
			t.Error(code)
		}
	}
}

func TestPinholesRefused(t *testing.T) {
	good := upnp.Pinhole{InternalClient: host6, InternalPort: 80, Protocol: 17, Lease: 60}
	for name, test := range map[string]struct {
		change func(*upnp.Pinhole)
		code   int
	}{
		"nothing":             {func(*upnp.Pinhole) {}, 0},
		"a remote host":       {func(p *upnp.Pinhole) { p.RemoteHost = "2001:db8:2::1" }, 0},
		"a remote name":       {func(p *upnp.Pinhole) { p.RemoteHost = "example.com" }, 402},
		"a remote of IPv4":    {func(p *upnp.Pinhole) { p.RemoteHost = "198.51.100.1" }, 402},
		"a remote port":       {func(p *upnp.Pinhole) { p.RemotePort = 53 }, 501},
		"somebody else":       {func(p *upnp.Pinhole) { p.InternalClient = other6 }, 606},
		"another network":     {func(p *upnp.Pinhole) { p.InternalClient = "2001:db8:9::1" }, 402},
		"the gateway":         {func(p *upnp.Pinhole) { p.InternalClient = gateway6 }, 402},
		"IPv4":                {func(p *upnp.Pinhole) { p.InternalClient = "192.168.1.10" }, 402},
		"link-local":          {func(p *upnp.Pinhole) { p.InternalClient = "fe80::10" }, 402},
		"every port":          {func(p *upnp.Pinhole) { p.InternalPort = 0 }, 706},
		"every protocol":      {func(p *upnp.Pinhole) { p.Protocol = 65535 }, 707},
		"a protocol":          {func(p *upnp.Pinhole) { p.Protocol = 132 }, 705},
		"a lease of nothing":  {func(p *upnp.Pinhole) { p.Lease = 0 }, 402},
		"a lease of too long": {func(p *upnp.Pinhole) { p.Lease = 86401 }, 402},
	} {
		p := good
		test.change(&p)
		l := newLab(t, testOptions(t, newDesk(), 2))
		if _, code := l.hole(host6, upnp.AddPinhole, p.Args()); code != test.code {
			t.Errorf("%s: %d, want %d", name, code, test.code)
		}
	}
	for err, want := range map[error]int{portmap.ErrDenied: 606, portmap.ErrQuota: 701, portmap.ErrFull: 701, portmap.ErrConflict: 501, portmap.ErrFailed: 501} {
		desk := newDesk()
		desk.refuse = err
		if _, code := newLab(t, testOptions(t, desk, 2)).hole(host6, upnp.AddPinhole, good.Args()); code != want {
			t.Errorf("%v: %d", err, code)
		}
	}
	// A neighbour that asks from its link-local address is who it is by the neighbour table.
	o := testOptions(t, newDesk(), 2)
	o.SameHost = func(a, b netip.Addr) bool { return a == b || a.IsLinkLocalUnicast() && b == netip.MustParseAddr(host6) }
	l := newLab(t, o)
	if _, code := l.call("fe80::10", "fe80::1", "holes", holes6, upnp.AddPinhole, good.Args()); code != 0 {
		t.Error(code)
	}
	// Nobody counts packets: then there are no actions that would be about them.
	if _, code := l.hole(host6, upnp.GetPinholePackets, id("1", "")); code != 401 {
		t.Error(code)
	}
}
