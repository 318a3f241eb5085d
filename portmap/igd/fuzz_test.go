package igd

import (
	"bufio"
	"bytes"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// FuzzRequest has any bytes come in as a request. A client gets nothing but mappings of its own, and no event goes to anybody else.
func FuzzRequest(f *testing.F) {
	desk := newDesk()
	o := testOptions(f, desk, 2)
	o.Log = nil
	l := newLab(f, o)
	base := "/" + l.server.token + "/2/"
	call := upnp.Call{Service: upnp.WANIPConnection + ":2", Action: upnp.AddAnyPortMapping, Args: mapped{}.args()}
	body := string(call.Append(nil))
	f.Add([]byte("GET " + base + "root.xml HTTP/1.1\r\nHost: 192.168.1.1:49152\r\n\r\n"))
	f.Add([]byte("POST " + base + "control/ip HTTP/1.1\r\nHost: 192.168.1.1\r\nSOAPAction: " + call.SOAPAction() + "\r\nContent-Length: " + decimal(len(body)) + "\r\n\r\n" + body))
	f.Add([]byte("SUBSCRIBE " + base + "event/ip HTTP/1.1\r\nHost: 192.168.1.1\r\nNT: upnp:event\r\nCALLBACK: <http://192.168.1.10:9/>\r\n\r\n"))
	d := &door{l.server, testPlace(), netip.MustParseAddrPort("192.168.1.1:49152"), l.server.devices[2]}
	client := netip.MustParseAddr("192.168.1.10")
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
		if err != nil {
			return
		}
		r.RemoteAddr = "192.168.1.10:50000"
		w := httptest.NewRecorder()
		d.answer(t.Context(), w, r)
		if r.Header.Get("Origin") != "" && w.Code != http.StatusForbidden {
			t.Fatalf("a browser is answered: %d", w.Code)
		}
		if got := desk.last(); got.Client.IsValid() && (got.Client != client || got.Internal.Addr() != client) {
			t.Fatalf("%+v", got)
		}
		l.server.events.mu.Lock()
		defer l.server.events.mu.Unlock()
		for id, sub := range l.server.events.subs {
			if u, err := url.Parse(sub.callback); err != nil || u.Hostname() != client.String() {
				t.Fatalf("%q", sub.callback)
			}
			delete(l.server.events.subs, id)
		}
	})
}

// FuzzSearch has any bytes come in as a datagram.
func FuzzSearch(f *testing.F) {
	o := testOptions(f, newDesk(), 1)
	o.Log = nil
	l := newLab(f, o)
	f.Add(search(ssdp.All))
	f.Add(search("urn:schemas-upnp-org:service:WANIPConnection:1"))
	now := time.Now()
	f.Fuzz(func(t *testing.T, b []byte) {
		now = now.Add(time.Minute)
		_, answers := l.site.answers(b, netip.MustParseAddrPort("192.168.1.10:5000"), netip.MustParseAddr("239.255.255.250"), now)
		if len(answers) > 12 {
			t.Fatalf("%d answers", len(answers))
		}
		for _, a := range answers {
			if _, err := ssdp.Parse(a.Append(nil)); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// FuzzCaller has any bytes be a CALLBACK: what comes of it leads to the client by HTTP.
func FuzzCaller(f *testing.F) {
	f.Add("<http://192.168.1.10:80/>")
	f.Add("<http://192.168.1.10@example.com/><http://[::ffff:192.168.1.10]/>")
	f.Fuzz(func(t *testing.T, header string) {
		got, ok := caller(header, netip.MustParseAddr("192.168.1.10"))
		if !ok {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "http" || u.User != nil {
			t.Fatalf("%q of %q", got, header)
		}
		if addr, err := netip.ParseAddr(u.Hostname()); err != nil || addr.Unmap() != netip.MustParseAddr("192.168.1.10") {
			t.Fatalf("%q of %q", got, header)
		}
	})
}

func TestCaller(t *testing.T) {
	for header, want := range map[string]string{
		"<http://192.168.1.10:80/a>":                           "http://192.168.1.10:80/a",
		"<http://192.168.1.10>":                                "http://192.168.1.10/",
		"<http://192.168.1.11/> <http://192.168.1.10:8/b?c#d>": "http://192.168.1.10:8/b?c",
		"<https://192.168.1.10/>":                              "",
		"<http://192.168.1.10:0/>":                             "",
		"<http://a@192.168.1.10/>":                             "",
		"<http://localhost/>":                                  "",
		"<http://3232235786/>":                                 "",
		"http://192.168.1.10/":                                 "",
		"<http://192.168.1.10/":                                "",
		"":                                                     "",
		"<http://192.168.1.10/" + strings.Repeat("a", maxCallback) + ">": "",
	} {
		if got, ok := caller(header, netip.MustParseAddr("192.168.1.10")); got != want || ok != (want != "") {
			t.Errorf("%.60q: %q, %v", header, got, ok)
		}
	}
	for timeout, want := range map[string]time.Duration{
		"": minSubscription, "Second-1": minSubscription, "Second-3600": time.Hour, "second-INFINITE": maxSubscription, "Second-99999999": maxSubscription,
		"Second--1": minSubscription, "infinite": minSubscription,
	} {
		if got := duration(timeout); got != want {
			t.Errorf("%q: %v", timeout, got)
		}
	}
}
