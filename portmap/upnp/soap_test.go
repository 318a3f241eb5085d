package upnp

import (
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// AddPortMapping as miniupnpc, Windows and a console write it.
var adds = []string{
	`<?xml version="1.0"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:AddPortMapping xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1"><NewRemoteHost></NewRemoteHost><NewExternalPort>8080</NewExternalPort><NewProtocol>TCP</NewProtocol><NewInternalPort>80</NewInternalPort><NewInternalClient>192.168.1.10</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>lib &amp; co</NewPortMappingDescription><NewLeaseDuration>0</NewLeaseDuration></u:AddPortMapping></s:Body></s:Envelope>
`,
	`<?xml version="1.0"?>
<SOAP-ENV:Envelope xmlns:SOAP-ENV="http://schemas.xmlsoap.org/soap/envelope/" SOAP-ENV:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><SOAP-ENV:Body><m:AddPortMapping xmlns:m="urn:schemas-upnp-org:service:WANIPConnection:1"><NewRemoteHost xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="string"></NewRemoteHost><NewExternalPort xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="ui2">8080</NewExternalPort><NewProtocol xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="string">TCP</NewProtocol><NewInternalPort xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="ui2">80</NewInternalPort><NewInternalClient xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="string">192.168.1.10</NewInternalClient><NewEnabled xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="boolean">1</NewEnabled><NewPortMappingDescription xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="string">lib &amp; co</NewPortMappingDescription><NewLeaseDuration xmlns:dt="urn:schemas-microsoft-com:datatypes" dt:dt="ui4">0</NewLeaseDuration></m:AddPortMapping></SOAP-ENV:Body></SOAP-ENV:Envelope>` + "\r\n\x00",
	`<?xml version="1.0" encoding="utf-8"?>
<s:Envelope s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/" xmlns:s="http://schemas.xmlsoap.org/soap/envelope/">
 <s:Body>
  <u:AddPortMapping xmlns:u="urn:schemas-upnp-org:service:WANIPConnection:1">
   <NewRemoteHost/>
   <NewExternalPort> 8080 </NewExternalPort>
   <NewProtocol>tcp</NewProtocol>
   <NewInternalPort>00080</NewInternalPort>
   <NewInternalClient>192.168.1.10</NewInternalClient>
   <NewEnabled>True</NewEnabled>
   <NewPortMappingDescription><![CDATA[lib & co]]></NewPortMappingDescription>
   <NewLeaseDuration></NewLeaseDuration>
  </u:AddPortMapping>
 </s:Body>
</s:Envelope>`,
}

var mapping = PortMapping{External: 8080, Network: forward.TCP, InternalPort: 80, InternalClient: "192.168.1.10", Enabled: true, Description: "lib & co"}

func TestAddPortMapping(t *testing.T) {
	for i, text := range adds {
		c, err := ParseCall([]byte(text))
		if err != nil || c.Action != AddPortMapping || c.Service != WANIPConnection+":1" {
			t.Errorf("%d: %+v, %v", i, c, err)
		}
		m, err := c.Args.Mapping()
		if err != nil || m != mapping {
			t.Errorf("%d: %+v, %v", i, m, err)
		}
	}
}

func TestCallComesBack(t *testing.T) {
	c := Call{WANIPConnection + ":2", AddAnyPortMapping, mapping.Args()}
	if got, err := ParseCall(c.Append(nil)); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseAnswer(c.AppendAnswer(nil)); err != nil || !reflect.DeepEqual(got, c) {
		t.Errorf("%+v, %v", got, err)
	}
	if service, action, ok := ParseSOAPAction(c.SOAPAction()); !ok || service != c.Service || action != c.Action {
		t.Error(service, action)
	}
	if service, action, ok := ParseSOAPAction(" urn:a:1#B"); !ok || service != "urn:a:1" || action != "B" {
		t.Error(service, action)
	}
	for _, s := range []string{"", "#", "a#", "#b", `""`, strings.Repeat("a", 300) + "#b"} {
		if _, _, ok := ParseSOAPAction(s); ok {
			t.Errorf("%q", s)
		}
	}
}

func TestFaults(t *testing.T) {
	f := NewFault(WANIPConnection+":1", Conflict)
	want := `<?xml version="1.0"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>718</errorCode><errorDescription>ConflictInMappingEntry</errorDescription></UPnPError></detail></s:Fault></s:Body></s:Envelope>` + "\r\n"
	if got := string(f.Append(nil)); got != want {
		t.Error(got)
	}
	_, err := ParseAnswer(f.Append(nil))
	var got *Fault
	if !errors.As(err, &got) || *got != *f || !errors.Is(err, &Fault{Code: Conflict}) || errors.Is(err, &Fault{Code: NoPorts}) {
		t.Error(err)
	}
	if f := NewFault(WANIPv6FirewallControl+":1", NoSuchPinhole); f.Description != "NoSuchEntry" {
		t.Error(f)
	}
	if f := NewFault(WANIPConnection+":1", 999); f.Description == "" {
		t.Error(f)
	}
	if _, err := ParseAnswer([]byte(strings.Replace(want, "718", "many", 1))); !errors.Is(err, ErrBadText) {
		t.Error(err)
	}
}

func TestCallsThatAreNone(t *testing.T) {
	wrap := func(s string) string { return `<s:Envelope xmlns:s="x"><s:Body>` + s + `</s:Body></s:Envelope>` }
	for name, text := range map[string]string{
		"no envelope":        "<a/>",
		"nothing in it":      wrap(""),
		"an argument twice":  wrap("<u:A xmlns:u='b'><c>1</c><c>2</c></u:A>"),
		"too many arguments": wrap("<u:A xmlns:u='b'>" + numbered(MaxArgs+1) + "</u:A>"),
	} {
		if c, err := ParseCall([]byte(text)); !errors.Is(err, ErrBadText) {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	if _, err := ParseAnswer([]byte(wrap("<u:A xmlns:u='b'/>"))); !errors.Is(err, ErrBadText) {
		t.Error(err)
	}
}

// miniupnpc does not escape what a program calls its mapping.
func TestCallsThatAreNotEscaped(t *testing.T) {
	for _, describe := range []string{"Tom & Jerry", "a <b>", "a &amp b", "AT&T;"} {
		m := mapping
		m.Description = "DESCRIPTION"
		c := Call{WANIPConnection + ":1", AddPortMapping, m.Args()}
		got, err := ParseCall([]byte(strings.Replace(string(c.Append(nil)), "DESCRIPTION", describe, 1)))
		if err != nil {
			t.Errorf("%s: %v", describe, err)
			continue
		}
		n, err := got.Args.Mapping()
		if strings.Contains(describe, "<") {
			describe = "a" // the rest is lost
		}
		if err != nil || n.External != mapping.External || n.Description != describe {
			t.Errorf("%s: %+v, %v", describe, n, err)
		}
	}
}

func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("<a" + decimal(uint64(i)) + "/>")
	}
	return b.String()
}

func TestArgsThatAreNone(t *testing.T) {
	for _, change := range []Arg{
		{argExternalPort, ""}, {argExternalPort, "65536"}, {argExternalPort, "-1"}, {argExternalPort, "0x50"}, {argExternalPort, "+80"}, {argExternalPort, "80 81"},
		{argProtocol, ""}, {argProtocol, "SCTP"}, {argInternalPort, "x"}, {argEnabled, "2"}, {argLease, "-1"}, {argLease, "4294967296"},
	} {
		args := mapping.Args()
		for i := range args {
			if args[i].Name == change.Name {
				args[i] = change
			}
		}
		if m, err := args.Mapping(); !errors.Is(err, &Fault{Code: InvalidArgs}) {
			t.Errorf("%v: %+v, %v", change, m, err)
		}
	}
	if m, err := (Args{{argExternalPort, "*"}, {argProtocol, "udp"}}).Named(); err != nil || m.External != 0 || m.Network != forward.UDP {
		t.Errorf("%+v, %v", m, err)
	}
	p := Pinhole{RemotePort: 1, InternalClient: "2001:db8::1", InternalPort: 80, Protocol: 6, Lease: 3600}
	if got, err := p.Args().Pinhole(); err != nil || got != p {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := p.Args()[:3].Pinhole(); !errors.Is(err, &Fault{Code: InvalidArgs}) {
		t.Error(err)
	}
}

func TestListing(t *testing.T) {
	list := []PortMapping{mapping, {RemoteHost: "203.0.113.1", External: 1, Network: forward.UDP, InternalPort: 2, InternalClient: "192.168.1.2", Description: "<", Lease: 60}}
	got, err := ParseListing(AppendListing(nil, list))
	if err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := ParseListing(AppendListing(nil, nil)); err != nil || got != nil {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ParseListing([]byte("<a/>")); !errors.Is(err, ErrBadText) {
		t.Error(err)
	}
}

func TestEvent(t *testing.T) {
	vars := Args{{"ExternalIPAddress", "203.0.113.1"}, {"PortMappingNumberOfEntries", "3"}, {"X", "<&>"}}
	if got, err := ParseEvent(AppendEvent(nil, vars)); err != nil || !reflect.DeepEqual(got, vars) {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := ParseEvent([]byte("<a/>")); !errors.Is(err, ErrBadText) {
		t.Error(err)
	}
}

// The bytes of a text that is no XML come back as something that is.
func TestWriterEscapes(t *testing.T) {
	w := &writer{}
	w.leaf("a", "\x00\x1b\xff\uFFFE<>&\"'\r\n\tü𝄞")
	if want := "<a>\uFFFD\uFFFD\uFFFD\uFFFD&lt;&gt;&amp;&quot;&apos;&#13;\n\tü𝄞</a>"; string(w.b) != want {
		t.Errorf("%q", w.b)
	}
}

func FuzzSOAP(f *testing.F) {
	for _, text := range adds {
		f.Add([]byte(text))
	}
	f.Add(NewFault(WANIPConnection, NoSuchEntry).Append(nil))
	f.Add(AppendListing(nil, []PortMapping{mapping}))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = ParseAnswer(b)
		_, _ = ParseListing(b)
		c, err := ParseCall(b)
		if err != nil {
			return
		}
		m, err := c.Args.Mapping()
		if err != nil {
			return
		}
		again := Call{WANIPConnection + ":1", AddPortMapping, m.Args()}
		parsed, err := ParseCall(again.Append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := parsed.Args.Mapping(); err != nil || n.External != m.External || n.Network != m.Network || n.InternalPort != m.InternalPort {
			t.Fatalf("%+v\n%+v, %v", m, n, err)
		}
	})
}

func FuzzEvent(f *testing.F) {
	f.Add(AppendEvent(nil, Args{{"ExternalIPAddress", "203.0.113.1"}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		if vars, err := ParseEvent(b); err != nil && (vars != nil || !errors.Is(err, ErrBadText)) {
			t.Fatalf("%+v, %v", vars, err)
		}
	})
}

func BenchmarkParseCall(b *testing.B) {
	text := []byte(adds[0])
	b.ReportAllocs()
	for b.Loop() {
		c, err := ParseCall(text)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := c.Args.Mapping(); err != nil {
			b.Fatal(err)
		}
	}
}
