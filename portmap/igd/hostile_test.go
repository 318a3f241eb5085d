package igd

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

func TestWhoIsServed(t *testing.T) {
	l := newLab(t, testOptions(t, newDesk(), 1))
	root := "/" + l.server.token + "/1/root.xml"
	good := "GET " + root + " HTTP/1.1\r\nHost: 192.168.1.1:49152\r\n\r\n"
	for _, test := range []struct{ name, client, gateway, request, want string }{
		{"as it should be", "192.168.1.10", gateway4, good, "200"},
		{"HEAD", "192.168.1.10", gateway4, strings.Replace(good, "GET", "HEAD", 1), "200"},
		{"without a port", "192.168.1.10", gateway4, strings.Replace(good, ":49152", "", 1), "200"},
		{"HTTP/1.0 without a host", "192.168.1.10", gateway4, "GET " + root + " HTTP/1.0\r\n\r\n", "200"},
		{"HTTP/1.1 without a host", "192.168.1.10", gateway4, "GET " + root + " HTTP/1.1\r\n\r\n", "400"},
		{"a name", "192.168.1.10", gateway4, strings.Replace(good, "192.168.1.1:", "evil.example:", 1), "403"},
		{"localhost", "192.168.1.10", gateway4, strings.Replace(good, "192.168.1.1:", "localhost:", 1), "403"},
		{"another address of ours", "192.168.1.10", gateway4, strings.Replace(good, "192.168.1.1:", "["+gateway6+"]:", 1), "403"},
		{"another port", "192.168.1.10", gateway4, strings.Replace(good, "49152", "80", 1), "403"},
		{"a page in a browser", "192.168.1.10", gateway4, strings.Replace(good, "\r\n\r\n", "\r\nOrigin: http://192.168.1.1:49152\r\n\r\n", 1), "403"},
		{"a sandboxed page", "192.168.1.10", gateway4, strings.Replace(good, "\r\n\r\n", "\r\nOrigin: null\r\n\r\n", 1), "403"},
		{"a known path", "192.168.1.10", gateway4, strings.Replace(good, root, "/rootDesc.xml", 1), "404"},
		{"the other version", "192.168.1.10", gateway4, strings.Replace(good, "/1/", "/2/", 1), "404"},
		{"another method", "192.168.1.10", gateway4, strings.Replace(good, "GET", "PUT", 1), "405"},
		{"POST to a text", "192.168.1.10", gateway4, strings.Replace(good, "GET", "POST", 1), "405"},
		{"a proxy's request", "192.168.1.10", gateway4, "GET http://example.com/ HTTP/1.1\r\nHost: 192.168.1.1:49152\r\n\r\n", "403"},
		{"CONNECT", "192.168.1.10", gateway4, "CONNECT example.com:80 HTTP/1.1\r\nHost: example.com:80\r\n\r\n", "403"},
		{"from outside", "203.0.113.9", gateway4, good, ""},
		{"from another network", "192.168.2.10", gateway4, good, ""},
		{"from the gateway", "192.168.1.1", gateway4, good, ""},
		{"over IPv6", host6, gateway6, "GET /" + l.server.token + "/2/root.xml HTTP/1.1\r\nHost: [" + gateway6 + "]:49152\r\n\r\n", "200"},
		{"link-local, with a zone", "fe80::10", "fe80::1", "GET /" + l.server.token + "/2/root.xml HTTP/1.1\r\nHost: [fe80::1%25eth0]:49152\r\n\r\n", "403 or 400 or 200"},
		{"a long header", "192.168.1.10", gateway4, strings.Replace(good, "\r\n\r\n", "\r\nX: "+strings.Repeat("x", 3*maxHeader)+"\r\n\r\n", 1), "431"},
		{"no HTTP", "192.168.1.10", gateway4, "hello\r\n\r\n", "400"},
	} {
		answer := l.raw(test.client, test.gateway, test.request)
		got := ""
		if words := strings.Fields(answer); len(words) > 1 {
			got = words[1]
		}
		if (got == "") != (test.want == "") || !strings.Contains(test.want, got) {
			t.Errorf("%s: %q, want %s", test.name, got, test.want)
		}
	}
}

func TestCallsAreBounded(t *testing.T) {
	l := newLab(t, testOptions(t, newDesk(), 2))
	path := "/" + l.server.token + "/2/control/ip"
	c := upnp.Call{Service: upnp.WANIPConnection + ":2", Action: upnp.GetStatusInfo}
	body := string(c.Append(nil))
	action := "SOAPAction: " + c.SOAPAction()
	for _, test := range []struct {
		name, path, body, action string
		status                   int
		contains                 string
	}{
		{"as it should be", path, body, action, 200, "Connected"},
		{"of version 1", path, strings.ReplaceAll(body, ":2", ":1"), strings.ReplaceAll(action, ":2", ":1"), 200, "WANIPConnection:1"},
		{"of version 3", path, body, strings.ReplaceAll(action, ":2", ":3"), 500, "401"},
		{"of another service", path, body, strings.ReplaceAll(action, "IPC", "PPPC"), 500, "401"},
		{"without its header", path, body, "X: y", 500, "401"},
		{"another action in its body", path, strings.ReplaceAll(body, "GetStatusInfo", "GetExternalIPAddress"), action, 500, "401"},
		{"what version 1 has not", path, strings.ReplaceAll(body, "GetStatusInfo", "AddAnyPortMapping"),
			strings.ReplaceAll(strings.ReplaceAll(action, "GetStatusInfo", "AddAnyPortMapping"), ":2", ":1"), 500, "401"},
		{"no XML", path, "hello", action, 400, ""},
		{"entities", path, `<!DOCTYPE a [<!ENTITY a "b">]>` + strings.TrimPrefix(body, `<?xml version="1.0"?>`), action, 400, ""},
		{"too long", path, body + strings.Repeat(" ", maxBody), action, 413, ""},
		{"another path", strings.Replace(path, "/ip", "/evil", 1), body, action, 404, ""},
	} {
		status, got := l.do("192.168.1.10", gateway4, "POST", test.path, test.body, test.action)
		if status != test.status || !strings.Contains(got, test.contains) {
			t.Errorf("%s: %d %s", test.name, status, got)
		}
	}
}

func TestConnectionsAreCounted(t *testing.T) {
	l := newLab(t, testOptions(t, newDesk(), 1))
	var held []net.Conn
	for range maxClientConns {
		held = append(held, l.connect("192.168.1.10", gateway4))
	}
	good := "GET /" + l.server.token + "/1/root.xml HTTP/1.1\r\nHost: 192.168.1.1:49152\r\nConnection: close\r\n\r\n"
	if got := l.raw("192.168.1.10", gateway4, good); got != "" {
		t.Errorf("one too many was answered: %s", got)
	}
	if got := l.raw("192.168.1.11", gateway4, good); !strings.HasPrefix(got, "HTTP/1.1 200") {
		t.Errorf("another client was not answered: %s", got)
	}
	for _, c := range held {
		_ = c.Close()
	}
	for deadline := time.Now().Add(10 * time.Second); l.raw("192.168.1.10", gateway4, good) == ""; {
		if time.Now().After(deadline) {
			t.Fatal("connections that ended still count")
		}
	}
}

func search(target string) []byte {
	m := ssdp.Message{Kind: ssdp.Search, Host: "239.255.255.250:1900", Target: target, MX: 2}
	return m.Append(nil)
}

func TestSearches(t *testing.T) {
	l := newLab(t, testOptions(t, newDesk(), 1))
	group4, group6, root := "239.255.255.250", "ff02::c", search(ssdp.RootDevice)
	for _, test := range []struct {
		name, client, to string
		text             []byte
		own              string
		answers          int
	}{
		{"to all", "192.168.1.10:5000", group4, root, gateway4, 1},
		{"to us", "192.168.1.10:5000", gateway4, root, gateway4, 1},
		{"for all", "192.168.1.10:5000", group4, search(ssdp.All), gateway4, 10},
		{"for the device", "192.168.1.10:5000", group4, search("uuid:" + l.server.uuid(1, 0)), gateway4, 1},
		{"for PPP", "192.168.1.10:5000", group4, search("urn:schemas-upnp-org:service:WANPPPConnection:1"), gateway4, 1},
		{"for a light", "192.168.1.10:5000", group4, search("urn:schemas-upnp-org:device:DimmableLight:1"), "", 0},
		{"for version 2", "192.168.1.10:5000", group4, search("urn:schemas-upnp-org:service:WANIPConnection:2"), "", 0},
		{"for pinholes by IPv4", "192.168.1.10:5000", group4, search("urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"), "", 0},
		{"for pinholes by IPv6", "[" + host6 + "]:5000", "ff05::c", search("urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"), gateway6, 1},
		{"from a link-local address", "[fe80::10%br0]:5000", group6, root, gateway6, 1},
		{"for all of version 2", "[fe80::10%br0]:5000", group6, search(ssdp.All), gateway6, 11},
		{"to our link-local address", "[fe80::10%br0]:5000", "fe80::1", root, "fe80::1", 1},
		{"from outside", "203.0.113.9:5000", group4, root, "", 0},
		{"from another network", "192.168.2.1:5000", group4, root, "", 0},
		{"from ourselves", gateway4 + ":5000", group4, root, "", 0},
		{"from everybody", "192.168.1.255:5000", group4, root, "", 0},
		{"from nobody", "0.0.0.0:5000", group4, root, "", 0},
		{"from a service", "192.168.1.10:53", group4, root, "", 0},
		{"to another address of ours", "192.168.1.10:5000", "203.0.113.7", root, "", 0},
		{"an answer", "192.168.1.10:5000", group4, []byte("HTTP/1.1 200 OK\r\nST: upnp:rootdevice\r\n\r\n"), "", 0},
		{"noise", "192.168.1.10:5000", group4, []byte("hello"), "", 0},
	} {
		own, got := l.site.answers(test.text, netip.MustParseAddrPort(test.client), netip.MustParseAddr(test.to), time.Now())
		if len(got) != test.answers || test.answers > 0 && own != netip.MustParseAddr(test.own) {
			t.Errorf("%s: %d answers from %v", test.name, len(got), own)
		}
		for _, m := range got {
			if !strings.HasPrefix(m.Location, "http://"+netip.AddrPortFrom(own, httpPort).String()+"/"+l.server.token+"/") || m.USN == "" || m.Target == "" {
				t.Errorf("%s: %+v", test.name, m)
			}
		}
	}
}

// Answers are bounded for each source and for all together, and so is what is remembered of sources.
func TestSearchesDoNotAmplify(t *testing.T) {
	l := newLab(t, testOptions(t, newDesk(), 1))
	now := time.Now()
	ask := func(client string, n int) (sent int) {
		for range n {
			_, got := l.site.answers(search(ssdp.All), netip.AddrPortFrom(netip.MustParseAddr(client), 5000), netip.MustParseAddr("239.255.255.250"), now)
			sent += len(got)
		}
		return sent
	}
	if got := ask("192.168.1.10", 1000); got == 0 || got > sourceBrim {
		t.Errorf("one source got %d answers at once", got)
	}
	total := 0
	for i := range 200 {
		total += ask("192.168.1."+decimal(i+11), 10)
	}
	if total > placeBrim {
		t.Errorf("all sources got %d answers at once", total)
	}
	now = now.Add(time.Minute)
	if got := ask("192.168.1.10", 1); got == 0 {
		t.Error("a source is not answered a minute later")
	}
	m := &meter{}
	for i := range 4 * maxSources {
		m.allow(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1, now)
	}
	if len(m.sources) > maxSources {
		t.Errorf("%d sources are remembered", len(m.sources))
	}
	if !m.allow(netip.MustParseAddr("10.9.9.9"), 1, now.Add(time.Minute)) {
		t.Error("a new source is not answered when the old ones are quiet")
	}
}
