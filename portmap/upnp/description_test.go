package upnp

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

// What a gateway of a well-known kind says of itself: a URLBase, old types, Latin-1, odd order.
const foreign = `<?xml version="1.0" encoding="ISO-8859-1"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><specVersion><major>1</major><minor>0</minor></specVersion><URLBase>http://192.168.0.1:5000/</URLBase>
<device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:1</deviceType><friendlyName>Bo` + "\xee" + `te &amp; Co</friendlyName>
<UDN>uuid:1</UDN><iconList><icon><url>/x.png</url></icon></iconList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANDevice:1</deviceType><UDN>uuid:2</UDN>
<serviceList><service><serviceType>urn:schemas-upnp-org:service:WANCommonInterfaceConfig:1</serviceType><controlURL>/ctl/c</controlURL></service></serviceList>
<deviceList><device><deviceType>urn:schemas-upnp-org:device:WANConnectionDevice:1</deviceType><UDN>uuid:3</UDN><serviceList>
<service><controlURL> ctl/p </controlURL><serviceType>urn:schemas-upnp-org:service:WANPPPConnection:1</serviceType></service>
<service><serviceType>urn:schemas-upnp-org:service:WANIPConnection:2</serviceType><serviceId>urn:upnp-org:serviceId:WANIPConn1</serviceId>
<SCPDURL>/ip.xml</SCPDURL><controlURL>http://192.168.0.1:5001/ctl/ip</controlURL><eventSubURL>/evt/ip</eventSubURL></service>
</serviceList></device></deviceList></device></deviceList></device></root>` + "\x00"

func TestParseDescription(t *testing.T) {
	d, err := ParseDescription([]byte(foreign))
	if err != nil {
		t.Fatal(err)
	}
	if d.URLBase != "http://192.168.0.1:5000/" || d.Device.FriendlyName != "Boîte & Co" || d.Device.UDN != "uuid:1" {
		t.Errorf("%+v", d)
	}
	var types []string
	for device := range d.Device.All {
		types = append(types, device.Type)
	}
	if got := strings.Join(types, " "); got != InternetGatewayDevice+":1 "+WANDevice+":1 "+WANConnectionDevice+":1" {
		t.Error(got)
	}
	ip, ppp := d.Device.Find(WANIPConnection), d.Device.Find(WANPPPConnection)
	want := Service{WANIPConnection + ":2", "urn:upnp-org:serviceId:WANIPConn1", "/ip.xml", "http://192.168.0.1:5001/ctl/ip", "/evt/ip"}
	if len(ip) != 1 || ip[0] != want || len(ppp) != 1 || ppp[0].ControlURL != "ctl/p" || d.Device.Find(WANIPv6FirewallControl) != nil {
		t.Errorf("%+v, %+v", ip, ppp)
	}
}

func TestDescriptionComesBack(t *testing.T) {
	d := Description{Minor: 1, Device: Device{
		Type: InternetGatewayDevice + ":2", FriendlyName: "a <b> & \"c\" 'd'", Manufacturer: "m", ModelName: "n", UDN: "uuid:1", PresentationURL: "/",
		Services: []Service{{Layer3Forwarding + ":1", "id", "/s", "/c", "/e"}},
		Devices:  []Device{{Type: WANDevice + ":2", Devices: []Device{{Type: WANConnectionDevice + ":2", UDN: "uuid:3"}}}},
	}}
	got, err := ParseDescription(d.Append(nil))
	if err != nil || !reflect.DeepEqual(got, d) {
		t.Errorf("%v\n%+v\n%+v", err, got, d)
	}
}

func TestResolve(t *testing.T) {
	for _, test := range []struct{ base, location, ref, want string }{
		{"", "http://192.168.1.1:49152/x/root.xml", "/ctl", "http://192.168.1.1:49152/ctl"},
		{"", "http://192.168.1.1:49152/x/root.xml", "ctl?a=b", "http://192.168.1.1:49152/x/ctl?a=b"},
		{"", "http://192.168.1.1:49152/x/root.xml", "http://192.168.1.1:80/ctl#f", "http://192.168.1.1:80/ctl"},
		{"http://192.168.1.1:5000/", "http://192.168.1.1:49152/root.xml", "ctl", "http://192.168.1.1:5000/ctl"},
		{"", "http://[fe80::1%25eth0]:5000/root.xml", "/ctl", "http://[fe80::1%25eth0]:5000/ctl"},
		{"", "http://[fe80::1%25eth0]:5000/root.xml", "http://[fe80::1]:6000/ctl", "http://[fe80::1%25eth0]:6000/ctl"},
		{"", "http://192.168.1.1:49152/root.xml", "http://192.168.1.2:49152/ctl", ""},
		{"", "http://192.168.1.1:49152/root.xml", "//evil.example/ctl", ""},
		{"", "http://192.168.1.1:49152/root.xml", "https://192.168.1.1/ctl", ""},
		{"", "http://192.168.1.1:49152/root.xml", "file:///etc/passwd", ""},
		{"", "http://192.168.1.1:49152/root.xml", "http://u:p@192.168.1.1/ctl", ""},
		{"", "http://192.168.1.1:49152/root.xml", "", ""},
		{"", "http://router.example/root.xml", "/ctl", ""},
		{"", "https://192.168.1.1/root.xml", "/ctl", ""},
		{"http://192.168.7.7/", "http://192.168.1.1:49152/root.xml", "/ctl", ""},
		{"::", "http://192.168.1.1:49152/root.xml", "/ctl", ""},
		{"", "http://[::1", "/ctl", ""},
		{"", "http://[fe80::1%25\xec]/root.xml", "/ctl", ""},
	} {
		d := Description{URLBase: test.base}
		got, err := d.Resolve(test.location, test.ref)
		if got != test.want || (err == nil) != (test.want != "") || err != nil && !errors.Is(err, ErrBadText) {
			t.Errorf("%+v: %q, %v", test, got, err)
		}
	}
}

func TestBounds(t *testing.T) {
	for name, text := range map[string]string{
		"empty":            "",
		"no XML":           "hello",
		"two roots":        "<a/><b/>",
		"not closed":       "<root><device>",
		"crossed":          "<root><device></root></device>",
		"deep":             strings.Repeat("<a>", maxDepth+1) + strings.Repeat("</a>", maxDepth+1),
		"many":             "<a>" + strings.Repeat("<b/>", maxElements) + "</a>",
		"long":             "<a>" + strings.Repeat(" ", MaxDocument) + "</a>",
		"a document type":  `<!DOCTYPE a [<!ENTITY b "c">]><a/>`,
		"an open tag":      "<a>b <c</a>",
		"a character":      "<a>\x01</a>",
		"another encoding": `<?xml version="1.0" encoding="utf-16"?><a/>`,
	} {
		if e, err := parse([]byte(text)); !errors.Is(err, ErrBadText) {
			t.Errorf("%s: %+v, %v", name, e, err)
		}
	}
}

func TestSCPD(t *testing.T) {
	for version := 1; version <= 2; version++ {
		for name, s := range Gateway(version) {
			text := s.Append(nil)
			got, err := ParseSCPD(text)
			if err != nil || !reflect.DeepEqual(got, s) {
				t.Errorf("%s:%d: %v\n%+v\n%+v", name, version, err, got, s)
			}
			known := map[string]bool{}
			for _, v := range s.State {
				known[v.Name] = true
			}
			for _, a := range s.Actions {
				for _, arg := range a.Arguments {
					if !known[arg.Variable] {
						t.Errorf("%s:%d: %s(%s) is of the kind of %s, which is not there", name, version, a.Name, arg.Name, arg.Variable)
					}
				}
			}
			if len(text) > 16<<10 {
				t.Errorf("%s:%d has %d bytes", name, version, len(text))
			}
		}
	}
	one, two := Gateway(1)[WANIPConnection], Gateway(2)[WANIPConnection]
	for _, action := range []string{AddAnyPortMapping, DeletePortMappingRange, GetListOfPortMappings} {
		if one.Has(action) || !two.Has(action) {
			t.Error(action)
		}
	}
	if _, err := ParseSCPD([]byte("<root/>")); !errors.Is(err, ErrBadText) {
		t.Error(err)
	}
}

func FuzzDescription(f *testing.F) {
	f.Add([]byte(foreign), "http://192.168.0.1:5000/", "/ctl")
	f.Add([]byte("<root><device/></root>"), "http://[fe80::1%25e]:1/", "//a")
	f.Fuzz(func(t *testing.T, b []byte, location, ref string) {
		d, err := ParseDescription(b)
		if err != nil {
			if !errors.Is(err, ErrBadText) {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseDescription(d.Append(nil))
		if err != nil {
			t.Fatalf("what was written does not parse: %v\n%s", err, d.Append(nil))
		}
		if again.Device.Type != d.Device.Type {
			t.Fatalf("%+v\n%+v", d, again)
		}
		if s, err := d.Resolve(location, ref); err == nil {
			if _, err := d.Resolve(s, s); err != nil {
				t.Fatalf("%q was found from %q and %q, but: %v", s, location, ref, err)
			}
		}
	})
}

func FuzzSCPD(f *testing.F) {
	s := SCPD{Actions: actions("A NewB > NewC"), State: variables("B ui2 event =1 a|b\nC ui4 1..2")}
	f.Add(s.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, err := ParseSCPD(b); err == nil {
			if _, err := ParseSCPD(s.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
	})
}
