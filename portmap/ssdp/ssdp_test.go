package ssdp

import (
	"errors"
	"strings"
	"testing"
)

const location = "http://192.168.1.1:49152/a1b2/root.xml"

// What clients send, and what gateways answer; "/" stands for the end of a line.
var known = []struct {
	name, text string
	want       Message
}{
	{"Windows", `M-SEARCH * HTTP/1.1/Host:239.255.255.250:1900/ST:urn:schemas-upnp-org:device:InternetGatewayDevice:1/Man:"ssdp:discover"/MX:3//`,
		Message{Kind: Search, Host: "239.255.255.250:1900", Target: "urn:schemas-upnp-org:device:InternetGatewayDevice:1", MX: 3}},
	{"by unicast, without MX", `M-SEARCH * HTTP/1.1/HOST: 192.168.1.1:1900/MAN: "ssdp:discover"/ST: upnp:rootdevice//`,
		Message{Kind: Search, Host: "192.168.1.1:1900", Target: RootDevice}},
	{"no quotes, no end", `M-SEARCH * HTTP/1.1/host: 239.255.255.250:1900/man: ssdp:discover/mx: 1/st: ssdp:all`,
		Message{Kind: Search, Host: "239.255.255.250:1900", Target: All, MX: 1}},
	{"an answer", `HTTP/1.1 200 OK/CACHE-CONTROL: private, max-age=120/ST: upnp:rootdevice/USN: uuid:1::upnp:rootdevice/EXT:/SERVER: Router/LOCATION: http:\\192.168.1.1:49152\a1b2\root.xml/BOOTID.UPNP.ORG: 7/CONFIGID.UPNP.ORG: 1337//`,
		Message{Kind: Answer, Target: RootDevice, USN: "uuid:1::upnp:rootdevice", Location: location, Agent: "Router", MaxAge: 120, Boot: 7, Config: 1337}},
	{"a notice", `NOTIFY * HTTP/1.1/HOST: [FF02::C]:1900/NT: upnp:rootdevice/NTS: ssdp:byebye/USN: uuid:1::upnp:rootdevice//`,
		Message{Kind: ByeBye, Host: "[FF02::C]:1900", Target: RootDevice, USN: "uuid:1::upnp:rootdevice"}},
	{"a number that is none, a field twice", `NOTIFY * HTTP/1.0/NT: a/NT: b/NTS: ssdp:alive/CACHE-CONTROL: max-age=-1/BOOTID.UPNP.ORG: x//`,
		Message{Kind: Alive, Target: "a"}},
}

func datagram(text string) []byte {
	return []byte(strings.NewReplacer("HTTP/", "HTTP/", " /", " /", "/", "\r\n", `\`, "/").Replace(text))
}

func TestParse(t *testing.T) {
	for _, k := range known {
		got, err := Parse(datagram(k.text))
		if err != nil || got != k.want {
			t.Errorf("%s:\n got %+v, %v\nwant %+v", k.name, got, err, k.want)
		}
		bare := strings.ReplaceAll(string(datagram(k.text)), "\r", "")
		if got, err := Parse([]byte(bare)); err != nil || got != k.want {
			t.Errorf("%s, with bare line feeds: %+v, %v", k.name, got, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	search := "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n"
	for name, text := range map[string]string{
		"nothing":            "",
		"another method":     "GET / HTTP/1.1\r\nST: ssdp:all\r\n\r\n",
		"a path":             "M-SEARCH /x HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\nST: ssdp:all\r\n\r\n",
		"no MAN":             "M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n",
		"no target":          "M-SEARCH * HTTP/1.1\r\nMAN: \"ssdp:discover\"\r\n\r\n",
		"an unknown notice":  "NOTIFY * HTTP/1.1\r\nNT: a\r\nNTS: dp:alive\r\n\r\n",
		"an answer that no":  "HTTP/1.1 404 Not Found\r\nST: ssdp:all\r\n\r\n",
		"a control char":     search + "X: \x01\r\n\r\n",
		"a carriage return":  search + "X: a\rLOCATION: b\r\n\r\n",
		"no colon":           search + "hello\r\n\r\n",
		"too many fields":    search + fields(maxFields) + "\r\n",
		"too long":           search + "X: " + strings.Repeat("x", MaxLen) + "\r\n\r\n",
		"a space in a name":  search + "a b: c\r\n\r\n",
		"a name without one": search + ": c\r\n\r\n",
	} {
		if m, err := Parse([]byte(text)); !errors.Is(err, ErrNotSSDP) {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}

func fields(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("X" + strings.Repeat("a", i+1) + ": 1\r\n")
	}
	return b.String()
}

func TestAppend(t *testing.T) {
	m := Message{Kind: Answer, Target: "upnp:rootdevice\r\nX: y", USN: USN("1", RootDevice), Location: location, Agent: "L UPnP/1.1 F/1", MaxAge: 1800, Boot: 9, Config: 2}
	want := "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=1800\r\nST: upnp:rootdeviceX: y\r\nEXT:\r\nUSN: uuid:1::upnp:rootdevice\r\n" +
		"LOCATION: http://192.168.1.1:49152/a1b2/root.xml\r\nSERVER: L UPnP/1.1 F/1\r\nOPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n" +
		"01-NLS: 9\r\nBOOTID.UPNP.ORG: 9\r\nCONFIGID.UPNP.ORG: 2\r\n\r\n"
	if got := string(m.Append(nil)); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	s := Message{Kind: Search, Host: "239.255.255.250:1900", Target: All, MX: 2}
	want = "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 2\r\nST: ssdp:all\r\n\r\n"
	if got := string(s.Append(nil)); got != want {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
}

func TestTypes(t *testing.T) {
	two, ok := ParseType("urn:schemas-upnp-org:service:WANIPConnection:2")
	one, _ := ParseType("urn:schemas-upnp-org:service:WANIPConnection:1")
	if !ok || !two.Serves(one) || !two.Serves(two) || one.Serves(two) || two.String() != "urn:schemas-upnp-org:service:WANIPConnection:2" {
		t.Errorf("%+v, %+v", one, two)
	}
	for _, s := range []string{"", "upnp:rootdevice", "urn:a", "urn:a:0", "urn:a:-1", "urn:a:1.0", "urn:a:999"} {
		if got, ok := ParseType(s); ok {
			t.Errorf("%q is no type, got %+v", s, got)
		}
	}
	if got := USN("1", "uuid:1"); got != "uuid:1" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	for _, k := range known {
		f.Add(datagram(k.text))
	}
	f.Add([]byte("M-SEARCH * HTTP/1.\nST:0\t0\nMAn:ssdp:disCover"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			if m != (Message{}) {
				t.Fatalf("%+v beside %v", m, err)
			}
			return
		}
		text := m.Append(nil)
		if len(text) > MaxLen {
			return
		}
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("what was written of %q does not parse: %v\n%q", b, err, text)
		}
		if again.Target != m.Target || again.Kind != m.Kind {
			t.Fatalf("%+v\n%+v", m, again)
		}
	})
}
