package forward_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func withHosts(t *testing.T, name, listen string, hosts ...string) *forward.Forward {
	t.Helper()
	f := newForward(t, name, listen, "127.0.0.1:9")
	f.Hosts = hosts
	if err := f.Validate(); err != nil {
		t.Fatal(err)
	}
	return f
}

func TestParseHost(t *testing.T) {
	for _, one := range []struct{ in, out, err string }{
		{in: "Blog.Example.com", out: "blog.example.com"},
		{in: "blog.example.com.", out: "blog.example.com"},
		{in: "*.example.com", out: "*.example.com"},
		{in: "*", out: "*"},
		{in: "localhost", out: "localhost"},
		{in: "xn--bcher-kva.example", out: "xn--bcher-kva.example"},
		{in: "a_b.example", out: "a_b.example"},
		{in: "bücher.example", err: "begins with xn--"},
		{in: "*.com", err: "top-level"},
		{in: "a.*.example", err: "first label"},
		{in: "*a.example.com", err: "first label"},
		{in: "blog.example.com:443", err: "port"},
		{in: "https://blog.example.com", err: "more than a name"},
		{in: "blog.example.com/x", err: "more than a name"},
		{in: "", err: "no host name"},
		{in: "a..b", err: "no host name"},
		{in: "-a.b", err: "no host name"},
		{in: "a b", err: "no host name"},
		{in: strings.Repeat("a", 64) + ".b", err: "no host name"},
		{in: strings.Repeat("a.", 128), err: "no host name"},
	} {
		out, err := forward.ParseHost(one.in)
		if out != one.out || (err != nil) != (one.err != "") || err != nil && !strings.Contains(err.Error(), one.err) {
			t.Errorf("%q: %q, %v", one.in, out, err)
		}
	}
}

func TestValidateNames(t *testing.T) {
	for _, one := range []struct {
		edit func(f *forward.Forward)
		err  string
	}{
		{func(*forward.Forward) {}, ""},
		{func(f *forward.Forward) { f.Site.TLS = forward.TLSACME }, ""},
		{func(f *forward.Forward) { f.Hosts[0], f.Site.TLS = "*.a.example", forward.TLSACME }, "no certificate for *.a.example"},
		{func(f *forward.Forward) { f.Site.TLS = forward.TLSFiles }, "two files"},
		{func(f *forward.Forward) { f.Site.Cert = "/c" }, "does not use cert"},
		{func(f *forward.Forward) { f.Site.Auth = forward.AuthBasic }, "has to be seen"},
		{func(f *forward.Forward) { f.Hosts, f.Site.TLS = nil, forward.TLSACME }, "tls is for a forward that is chosen by name"},
		{func(f *forward.Forward) { f.Hosts = []string{"a.example", "a.example"} }, "twice"},
		{func(f *forward.Forward) { f.Hosts = []string{"A.example"} }, "lower case"},
		{func(f *forward.Forward) { f.At, f.Site.TLS, f.Site.RedirectHTTPS = "hub", forward.TLSACME, true }, ""},
		{func(f *forward.Forward) { f.At, f.Site.AwayPage = "hub", "/page.html" }, "is a matter of node hub"},
		{func(f *forward.Forward) {
			f.At, f.Site.TLS, f.Site.Cert, f.Site.Key = "hub", forward.TLSFiles, "/c", "/k"
		}, "is a matter of node hub"},
		{func(f *forward.Forward) { f.Listen = newForward(t, "x", "udp/80", "a").Listen }, "over tcp"},
		{func(f *forward.Forward) { f.Listen = newForward(t, "x", "80-90", "a").Listen }, "single ports"},
		{func(f *forward.Forward) { f.Except = prefixes("10.0.0.0/8") }, "except and host"},
		{func(f *forward.Forward) { f.Site.Allow = []string{"@example.com"} }, "auth = \"oidc\""},
	} {
		f := newForward(t, "f", "80,443", "10.0.0.1:80")
		f.Hosts = []string{"a.example"}
		one.edit(f)
		err := f.Validate()
		if (err != nil) != (one.err != "") || err != nil && !strings.Contains(err.Error(), one.err) {
			t.Errorf("%+v: %v", f.Site, err)
		}
	}
}

func TestIndexNames(t *testing.T) {
	var x forward.Index
	relay := func(f *forward.Forward) *forward.Forward { f.Carry = forward.CarryRelay; return f }
	blog, wild := withHosts(t, "blog", "443", "blog.example.com"), withHosts(t, "wild", "443", "*.example.com", "example.com")
	lan := withHosts(t, "lan", "443", "blog.example.com")
	lan.From = prefixes("10.0.0.0/8")
	rest := relay(newForward(t, "rest", "443", "127.0.0.1:9"))
	for _, f := range []*forward.Forward{blog, wild, lan, rest} {
		if err := x.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	find := func(client, host string, called bool) string {
		f := x.Match(forward.Packet{Network: forward.TCP, Client: netip.MustParseAddr(client), Local: true, Port: 443, Called: called, Host: host})
		if f == nil {
			return ""
		}
		return f.Name
	}
	for _, one := range []struct{ client, host, want string }{
		{"192.0.2.1", "blog.example.com", "blog"},
		{"10.1.1.1", "blog.example.com", "lan"},
		{"10.1.1.1", "a.example.com", "wild"},
		{"192.0.2.1", "a.example.com", "wild"},
		{"192.0.2.1", "example.com", "wild"},
		{"192.0.2.1", "a.b.example.com", "rest"},
		{"192.0.2.1", "com", "rest"},
		{"2001:db8::1", "blog.example.com", "blog"},
		{"192.0.2.1", "", "rest"},
	} {
		if got := find(one.client, one.host, true); got != one.want {
			t.Errorf("%s calls %q: %q, want %q", one.client, one.host, got, one.want)
		}
	}
	if got := find("192.0.2.1", "", false); got != "blog" && got != "wild" {
		t.Errorf("before the client has named one: %q", got)
	}
	for _, one := range []struct {
		f      *forward.Forward
		other  string
		reason string
	}{
		{withHosts(t, "x", "443", "other.example", "blog.example.com"), "blog", ""},
		{withHosts(t, "x", "443", "*.example.com"), "wild", ""},
		{withHosts(t, "x", "443", "*"), "rest", ""},
		{relay(newForward(t, "x", "443", "127.0.0.1:8")), "rest", ""},
	} {
		var tie *forward.TieError
		if err := x.Add(one.f); !errors.As(err, &tie) || tie.Other != one.other {
			t.Errorf("%v: %v", one.f.Hosts, err)
		}
	}
	x.Remove(rest)
	if got := find("192.0.2.1", "", true); got != "" {
		t.Errorf("nobody is left for who calls no name, but %q", got)
	}
	var tie *forward.TieError
	if err := x.Add(newForward(t, "kernels", "443", "10.0.0.1:443")); !errors.As(err, &tie) || !strings.Contains(err.Error(), `host = "*"`) {
		t.Errorf("a forward that the kernel would carry: %v", err)
	}
	proxied := withHosts(t, "proxied", "443", "proxied.example")
	proxied.AcceptProxy = prefixes("10.0.0.0/8")
	if err := x.Add(proxied); err == nil || !strings.Contains(err.Error(), "accept_proxy") {
		t.Errorf("a forward behind a proxy: %v", err)
	}
	for _, f := range []*forward.Forward{lan, wild, blog} {
		x.Remove(f)
	}
	if err := x.Add(newForward(t, "kernels", "443", "10.0.0.1:443")); err != nil {
		t.Error(err)
	}
	if err := x.Add(blog); err == nil {
		t.Error("a name was added where the kernel takes all")
	}
	if got := find("192.0.2.1", "blog.example.com", true); got != "kernels" {
		t.Errorf("afterwards %q", got)
	}
}

// FuzzNameCalled holds what clients call to what names can be, and forwards to serving what they list.
func FuzzNameCalled(f *testing.F) {
	for _, s := range []string{"blog.example.com", "Blog.Example.com.:443", "[::1]:80", "a b", "*.x", "a:b:c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name := forward.NameCalled(s)
		if name == "" {
			return
		}
		if again := forward.NameCalled(name); again != name {
			t.Fatalf("%q, then %q", name, again)
		}
		if parsed, err := forward.ParseHost(name); err != nil || parsed != name {
			t.Fatalf("%q: %q, %v", name, parsed, err)
		}
		if strings.ContainsAny(name, "*:/@ \r\n\x00") || slices.Contains(strings.Split(name, "."), "") {
			t.Fatalf("%q", name)
		}
		one, other := &forward.Forward{Hosts: []string{name}}, &forward.Forward{Hosts: []string{"x" + name}}
		if !one.Serves(name) || other.Serves(name) {
			t.Fatalf("%q is not told apart", name)
		}
	})
}
