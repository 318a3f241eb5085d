package igd

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/portmap"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// A mapped is a mapping to be asked for; what is not said is as most clients have it.
type mapped struct {
	client           string
	action, remote   string
	external, inside string // ports
	protocol         string
	internal         string // client; "-": the client itself
	lease            string
	disabled         bool
	describe         string
}

func (m mapped) args() upnp.Args {
	or := func(s, instead string) string {
		if s == "" {
			return instead
		}
		return s
	}
	internal := m.internal
	if internal == "-" {
		internal = or(m.client, "192.168.1.10")
	}
	enabled := "1"
	if m.disabled {
		enabled = "0"
	}
	return upnp.Args{
		{Name: "NewRemoteHost", Value: m.remote}, {Name: "NewExternalPort", Value: or(m.external, "8080")}, {Name: "NewProtocol", Value: or(m.protocol, "TCP")},
		{Name: "NewInternalPort", Value: or(m.inside, "80")}, {Name: "NewInternalClient", Value: internal}, {Name: "NewEnabled", Value: enabled},
		{Name: "NewPortMappingDescription", Value: m.describe}, {Name: "NewLeaseDuration", Value: m.lease},
	}
}

// call calls an action of a service and returns what comes out of it, or the fault's code.
func (l *lab) call(client, gateway, short, service, action string, args upnp.Args) (upnp.Args, int) {
	l.t.Helper()
	version := l.server.deviceFor(netip.MustParseAddr(gateway)).version
	c := upnp.Call{Service: service, Action: action, Args: args}
	path := "/" + l.server.token + "/" + decimal(version) + "/control/" + short
	status, body := l.do(client, gateway, "POST", path, string(c.Append(nil)), "SOAPAction: "+c.SOAPAction())
	answer, err := upnp.ParseAnswer([]byte(body))
	var f *upnp.Fault
	switch {
	case errors.As(err, &f):
		if status != 500 || f.Description == "" {
			l.t.Errorf("%s: a fault with status %d: %v", action, status, f)
		}
		return nil, f.Code
	case err != nil || status != 200:
		l.t.Errorf("%s: status %d, %v: %s", action, status, err, body)
		return nil, -1
	}
	return answer.Args, 0
}

// ip calls WANIPConnection in the version of the device.
func (l *lab) ip(client, action string, args upnp.Args) (upnp.Args, int) {
	l.t.Helper()
	return l.call(client, gateway4, "ip", typeOf(upnp.WANIPConnection, l.server.deviceFor(netip.MustParseAddr(gateway4)).version).String(), action, args)
}

func (l *lab) add(m mapped) int {
	l.t.Helper()
	if m.client == "" {
		m.client = "192.168.1.10"
	}
	if m.action == "" {
		m.action = upnp.AddPortMapping
	}
	_, code := l.ip(m.client, m.action, m.args())
	return code
}

func TestRulesOfMappings(t *testing.T) {
	const any2 = upnp.AddAnyPortMapping
	for _, test := range []struct {
		name     string
		m        mapped
		one, two int // codes by version of the device; 0: granted
	}{
		{"as most do it", mapped{internal: "-"}, 0, 0},
		{"without a client", mapped{}, 0, 0},
		{"lower case", mapped{protocol: "udp"}, 0, 0},
		{"a low port", mapped{external: "514"}, 0, 0},
		{"port 0", mapped{external: "0"}, 716, 716},
		{"any port", mapped{external: "*"}, 716, 716},
		{"no port at all", mapped{external: "65536"}, 402, 402},
		{"internal port 0", mapped{inside: "0"}, 402, 732},
		{"another protocol", mapped{protocol: "SCTP"}, 402, 402},
		{"for somebody else", mapped{internal: "192.168.1.11"}, 718, 606},
		{"for the gateway", mapped{internal: gateway4}, 718, 606},
		{"for a name", mapped{internal: "localhost"}, 402, 402},
		{"for an address of IPv6", mapped{internal: "2001:db8:1::10"}, 402, 402},
		{"somebody's port", mapped{external: "5000"}, 718, 718},
		{"a console's port by PCP", mapped{external: "5001"}, 718, 729},
		{"the operator's port", mapped{external: "5002"}, 718, 729},
		{"a remote host", mapped{remote: "198.51.100.1"}, 0, 0},
		{"a remote star", mapped{remote: "*"}, 0, 0},
		{"a remote name", mapped{remote: "example.com"}, 726, 726},
		{"a lease", mapped{lease: "60"}, 0, 0},
		{"an endless lease", mapped{lease: "0"}, 0, 0},
		{"a lease below 0", mapped{lease: "-1"}, 402, 402},
		{"any port, of version 2", mapped{action: any2, external: "0"}, 401, 0},
		{"somebody's port, of version 2", mapped{action: any2, external: "5000"}, 401, 0},
	} {
		for version, want := range map[int]int{1: test.one, 2: test.two} {
			desk := newDesk()
			desk.taken[external{forward.TCP, 5002}] = true
			desk.one(portmap.Request{Protocol: portmap.UPnP, Key: keyOf("192.168.1.99:1"), Client: netip.MustParseAddr("192.168.1.99"), External: 5000})
			desk.one(portmap.Request{Protocol: portmap.PCP, Key: keyOf("192.168.1.99:2"), Client: netip.MustParseAddr("192.168.1.99"), External: 5001})
			l := newLab(t, testOptions(t, desk, version))
			if got := l.add(test.m); got != want {
				t.Errorf("%s, version %d: code %d, want %d", test.name, version, got, want)
			}
			if len(desk.Of(netip.MustParseAddr("192.168.1.99"))) != 2 {
				t.Errorf("%s, version %d: somebody else's mapping is gone", test.name, version)
			}
		}
	}
}

func keyOf(s string) portmap.Key {
	return portmap.Key{Network: forward.TCP, Internal: netip.MustParseAddrPort(s)}
}

func TestWhatTheDeskIsAsked(t *testing.T) {
	for version, forever := range map[int]time.Duration{1: 0, 2: upnp.MaxLease * time.Second} {
		desk := newDesk()
		l := newLab(t, testOptions(t, desk, version))
		l.add(mapped{remote: "198.51.100.1", disabled: true, describe: "a\x00b\r\n <c> " + strings.Repeat("ü", 100)})
		want := portmap.Request{
			Protocol: portmap.UPnP, Key: keyOf("192.168.1.10:80"), Client: netip.MustParseAddr("192.168.1.10"), Interface: "flnone0", External: 8080, Exact: true,
			Lifetime: forever, Disabled: true, Describe: "a�b <c> " + strings.Repeat("ü", 59),
		}
		got := desk.last()
		from := got.From
		got.From = nil
		if len(from) != 1 || from[0] != netip.MustParsePrefix("198.51.100.1/32") {
			t.Errorf("from %v", from)
		}
		if !strings.HasPrefix(got.Describe, "a b <c> üüü") || len(got.Describe) > maxDescription {
			t.Errorf("%q", got.Describe)
		}
		got.Describe, want.Describe = "", ""
		if !equalRequests(got, want) {
			t.Errorf("version %d:\n%+v\n%+v", version, got, want)
		}
		l.add(mapped{lease: "3600"})
		if got := desk.last().Lifetime; got != time.Hour {
			t.Error(got)
		}
		l.add(mapped{lease: "4294967295"})
		if got := desk.last().Lifetime; version == 2 && got != upnp.MaxLease*time.Second {
			t.Error(got)
		}
	}
}

func equalRequests(a, b portmap.Request) bool {
	return a.Protocol == b.Protocol && a.Key == b.Key && a.Client == b.Client && a.Interface == b.Interface && a.External == b.External && a.Exact == b.Exact &&
		a.Lifetime == b.Lifetime && a.Nonce == b.Nonce && a.Describe == b.Describe && a.Disabled == b.Disabled
}

// A client changes the target of its own port, and an order of the desk is put into the codes of each version.
func TestOverwritesAndRefusals(t *testing.T) {
	desk := newDesk()
	l := newLab(t, testOptions(t, desk, 1))
	for _, inside := range []string{"80", "81", "81"} {
		if code := l.add(mapped{inside: inside}); code != 0 {
			t.Fatal(code)
		}
	}
	if list := desk.Of(netip.MustParseAddr("192.168.1.10")); len(list) != 1 || list[0].Internal.Port() != 81 {
		t.Errorf("%+v", list)
	}
	desk.deny = keyOf("192.168.1.10:82")
	if code := l.add(mapped{inside: "82"}); code != 718 {
		t.Error(code)
	}
	if list := desk.Of(netip.MustParseAddr("192.168.1.10")); len(list) != 1 || list[0].Internal.Port() != 81 || list[0].Public.Port() != 8080 {
		t.Errorf("after a refusal: %+v", list)
	}
	for _, test := range []struct {
		err      error
		one, two int // AddPortMapping
		some     int // AddAnyPortMapping
	}{
		{portmap.ErrDenied, 718, 606, 606},
		{portmap.ErrConflict, 718, 729, 718},
		{portmap.ErrQuota, 501, 501, 728},
		{portmap.ErrFull, 501, 501, 728},
		{portmap.ErrNoExternal, 501, 501, 501},
		{portmap.ErrFailed, 501, 501, 501},
	} {
		for version, want := range map[int]int{1: test.one, 2: test.two} {
			desk := newDesk()
			desk.refuse = test.err
			l := newLab(t, testOptions(t, desk, version))
			if got := l.add(mapped{}); got != want {
				t.Errorf("%v, version %d: %d", test.err, version, got)
			}
			if version == 2 {
				if got := l.add(mapped{action: upnp.AddAnyPortMapping}); got != test.some {
					t.Errorf("%v, any port: %d", test.err, got)
				}
			}
		}
	}
}

func named(external, protocol string) upnp.Args {
	return upnp.Args{{Name: "NewRemoteHost"}, {Name: "NewExternalPort", Value: external}, {Name: "NewProtocol", Value: protocol}}
}

func index(n int) upnp.Args { return upnp.Args{{Name: "NewPortMappingIndex", Value: decimal(n)}} }

func ports(from, to, manage string) upnp.Args {
	return upnp.Args{
		{Name: "NewStartPort", Value: from}, {Name: "NewEndPort", Value: to}, {Name: "NewProtocol", Value: "TCP"}, {Name: "NewManage", Value: manage},
		{Name: "NewNumberOfPorts", Value: "0"},
	}
}

// A client sees and ends its own mappings, and nobody else's.
func TestEachForItself(t *testing.T) {
	for version, stranger := range map[int]int{1: 714, 2: 606} {
		desk := newDesk()
		l := newLab(t, testOptions(t, desk, version))
		l.add(mapped{external: "1000", inside: "1", lease: "3600"})
		l.add(mapped{external: "1001", inside: "2", describe: "second"})
		l.add(mapped{client: "192.168.1.11", external: "1002", inside: "3"})
		for _, other := range []string{upnp.GetSpecificPortMappingEntry, upnp.DeletePortMapping} {
			if _, code := l.ip("192.168.1.11", other, named("1000", "TCP")); code != stranger {
				t.Errorf("version %d: %s of somebody else's: %d", version, other, code)
			}
			if _, code := l.ip("192.168.1.10", other, named("1000", "UDP")); code != 714 {
				t.Errorf("version %d: %s of another protocol's: %d", version, other, code)
			}
		}
		e, code := l.ip("192.168.1.10", upnp.GetSpecificPortMappingEntry, named("1001", "tcp"))
		if code != 0 || e.Of("NewInternalPort") != "2" || e.Of("NewPortMappingDescription") != "second" || e.Of("NewEnabled") != "1" {
			t.Errorf("version %d: %v, %d", version, e, code)
		}
		var seen []string
		for n := range 3 {
			e, code := l.ip("192.168.1.10", upnp.GetGenericPortMappingEntry, index(n))
			if (code == 713) != (n == 2) {
				t.Errorf("version %d: entry %d: %d", version, n, code)
			}
			seen = append(seen, e.Of("NewExternalPort"))
		}
		if strings.Join(seen, " ") != "1000 1001 " {
			t.Errorf("version %d: %q", version, seen)
		}
		if _, code := l.ip("192.168.1.10", upnp.DeletePortMapping, named("1000", "TCP")); code != 0 {
			t.Error(code)
		}
		if _, code := l.ip("192.168.1.10", upnp.DeletePortMapping, named("1000", "TCP")); code != 714 {
			t.Error(code)
		}
	}
}

// Who has taken on the hardware address of a host in another network of this gateway is not that host.
func TestSameHostElsewhere(t *testing.T) {
	desk := newDesk()
	o := testOptions(t, desk, 2)
	o.SameHost = func(netip.Addr, netip.Addr) bool { return true }
	l := newLab(t, o)
	victim := netip.MustParseAddr("192.168.2.20")
	desk.one(portmap.Request{
		Protocol: portmap.UPnP, Client: victim, External: 1000, Exact: true, Key: portmap.Key{Network: forward.TCP, Internal: netip.AddrPortFrom(victim, 80)},
	})
	for _, verb := range []string{upnp.GetSpecificPortMappingEntry, upnp.DeletePortMapping} {
		if _, code := l.ip("192.168.1.11", verb, named("1000", "TCP")); code != 606 {
			t.Errorf("%s of somebody else's: %d", verb, code)
		}
	}
	if code := l.add(mapped{client: "192.168.1.11", external: "1000", inside: "1"}); code != 718 {
		t.Errorf("somebody else's port: %d", code)
	}
}

// A list is as it was when its reader began, until somebody changes it.
func TestListsWhileTheyAreRead(t *testing.T) {
	desk := newDesk()
	l := newLab(t, testOptions(t, desk, 1))
	for _, port := range []string{"1000", "1001", "1002", "1003"} {
		l.add(mapped{external: port, inside: port})
	}
	read := func(n int) string {
		out, _ := l.ip("192.168.1.10", upnp.GetGenericPortMappingEntry, index(n))
		return out.Of("NewExternalPort")
	}
	seen := read(0) + " " + read(1)
	_ = desk.UnmapAt(t.Context(), netip.MustParseAddr("192.168.1.10"), forward.TCP, 1002) // and not by this server
	seen += " " + read(2)
	l.ip("192.168.1.10", upnp.DeletePortMapping, named("1001", "TCP"))
	seen += " " + read(1) + " " + read(2) + " " + read(0)
	if seen != "1000 1001 1002 1003  1000" {
		t.Errorf("%q", seen)
	}
}

// Two external ports may lead to one internal, and each ends by itself.
func TestTwoPortsForOne(t *testing.T) {
	desk := newDesk()
	l := newLab(t, testOptions(t, desk, 1))
	l.add(mapped{external: "1000"})
	l.add(mapped{external: "1001"})
	if _, code := l.ip("192.168.1.10", upnp.DeletePortMapping, named("1000", "TCP")); code != 0 {
		t.Error(code)
	}
	if list := desk.Of(netip.Addr{}); len(list) != 1 || list[0].Public.Port() != 1001 {
		t.Errorf("%+v", list)
	}
}

func TestRanges(t *testing.T) {
	desk := newDesk()
	l := newLab(t, testOptions(t, desk, 2))
	for _, port := range []string{"1000", "1001", "1002"} {
		l.add(mapped{external: port, inside: port})
	}
	l.add(mapped{client: "192.168.1.11", external: "1003"})
	out, code := l.ip("192.168.1.10", upnp.GetListOfPortMappings, ports("1001", "65535", "1"))
	list, err := upnp.ParseListing([]byte(out.Of("NewPortListing")))
	if code != 0 || err != nil || len(list) != 2 || list[0].External != 1001 || list[0].InternalClient != "192.168.1.10" || list[0].Lease == 0 {
		t.Errorf("%d, %v, %+v", code, err, list)
	}
	for _, test := range []struct {
		action string
		args   upnp.Args
		code   int
	}{
		{upnp.GetListOfPortMappings, ports("2000", "3000", "0"), 730},
		{upnp.GetListOfPortMappings, ports("3000", "2000", "0"), 733},
		{upnp.GetListOfPortMappings, ports("x", "2000", "0"), 402},
		{upnp.DeletePortMappingRange, ports("1000", "1003", "1"), 606},
		{upnp.DeletePortMappingRange, ports("1003", "1003", "0"), 730},
		{upnp.DeletePortMappingRange, ports("1001", "1003", "0"), 0},
	} {
		if _, code := l.ip("192.168.1.10", test.action, test.args); code != test.code {
			t.Errorf("%s %v: %d, want %d", test.action, test.args, code, test.code)
		}
	}
	if list := desk.Of(netip.Addr{}); len(list) != 2 {
		t.Errorf("%+v", list)
	}
}

// Where the operator lets clients act for others, they do, but for none outside of the LAN.
func TestThirdParty(t *testing.T) {
	desk := newDesk()
	o := testOptions(t, desk, 2)
	o.Spec.ThirdParty, desk.third = true, true
	l := newLab(t, o)
	for internal, want := range map[string]int{"192.168.1.11": 0, "192.168.1.1": 402, "192.168.1.255": 402, "198.51.100.1": 402, "127.0.0.1": 402} {
		if got := l.add(mapped{internal: internal}); got != want {
			t.Errorf("%s: %d", internal, got)
		}
	}
	if _, code := l.ip("192.168.1.12", upnp.DeletePortMapping, named("8080", "TCP")); code != 0 {
		t.Error(code)
	}
}

func TestStatus(t *testing.T) {
	desk := newDesk()
	o := testOptions(t, desk, 1)
	l := newLab(t, o)
	for _, test := range []struct{ action, out, want string }{
		{upnp.GetExternalIPAddress, "NewExternalIPAddress", "203.0.113.7"},
		{upnp.GetStatusInfo, "NewConnectionStatus", "Connected"},
		{upnp.GetNATRSIPStatus, "NewNATEnabled", "1"},
		{upnp.GetConnectionTypeInfo, "NewConnectionType", "IP_Routed"},
	} {
		if out, code := l.ip("192.168.1.10", test.action, nil); code != 0 || out.Of(test.out) != test.want {
			t.Errorf("%s: %v, %d", test.action, out, code)
		}
	}
	for action, want := range map[string]int{"RequestConnection": 0, "ForceTermination": 501, "SetConnectionType": 501, "Nonsense": 401, "AddAnyPortMapping": 401} {
		if _, code := l.ip("192.168.1.10", action, nil); code != want {
			t.Errorf("%s: %d", action, code)
		}
	}
	link := upnp.WANCommonInterfaceConfig + ":1"
	for action, want := range map[string]string{"GetTotalBytesReceived": "2", "GetTotalPacketsSent": "3"} {
		if out, code := l.call("192.168.1.10", gateway4, "link", link, action, nil); code != 0 || out[0].Value != want {
			t.Errorf("%s: %v, %d", action, out, code)
		}
	}
	if out, code := l.call("192.168.1.10", gateway4, "link", link, "GetCommonLinkProperties", nil); code != 0 || out.Of("NewPhysicalLinkStatus") != "Up" {
		t.Errorf("%v, %d", out, code)
	}
	if out, code := l.call("192.168.1.10", gateway4, "route", upnp.Layer3Forwarding+":1", "GetDefaultConnectionService", nil); code != 0 || !strings.Contains(out[0].Value, "WANConnectionDevice:1,") {
		t.Errorf("%v, %d", out, code)
	}
	desk.setExternal(netip.Addr{})
	if out, code := l.ip("192.168.1.10", upnp.GetExternalIPAddress, nil); code != 501 {
		t.Errorf("%v, %d", out, code) // and never 0.0.0.0
	}

	o.Link = nil
	l = newLab(t, o)
	if out, code := l.call("192.168.1.10", gateway4, "link", link, "GetTotalBytesReceived", nil); code != 401 {
		t.Errorf("%v, %d", out, code)
	}
	if _, scpd := l.do("192.168.1.10", gateway4, "GET", "/"+l.server.token+"/1/link.xml", ""); strings.Contains(scpd, "<name>GetTotalBytesReceived") || !strings.Contains(scpd, "GetCommonLinkProperties") {
		t.Error(scpd)
	}
}
