package pac

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"github.com/dop251/goja"

	"github.com/fairlead-net/fairlead/forward"
)

func rules(t testing.TB, list ...string) []forward.Rule {
	t.Helper()
	var out []forward.Rule
	for _, s := range list {
		r, err := forward.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

// A browser runs a file, and counts how often it looks a name up.
type browser struct {
	vm      *goja.Runtime
	lookups int
}

func newBrowser(t testing.TB, file []byte, names map[string]string) *browser {
	t.Helper()
	b := &browser{vm: goja.New()}
	b.vm.Set("dnsResolve", func(name string) any {
		b.lookups++
		if addr := names[name]; addr != "" {
			return addr
		}
		return nil
	})
	if _, err := b.vm.RunString(string(file)); err != nil {
		t.Fatalf("%v in\n%s", err, file)
	}
	return b
}

func (b *browser) find(t testing.TB, url, host string) string {
	t.Helper()
	find, ok := goja.AssertFunction(b.vm.Get("FindProxyForURL"))
	if !ok {
		t.Fatal("there is no FindProxyForURL")
	}
	v, err := find(goja.Undefined(), b.vm.ToValue(url), b.vm.ToValue(host))
	if err != nil {
		t.Fatal(err)
	}
	return v.String()
}

func TestFile(t *testing.T) {
	const through = "PROXY proxy.example:3128"
	names := map[string]string{"ten.example": "10.1.2.3", "six.example": "2001:db8::7", "out.example": "192.0.2.1"}
	for _, test := range []struct {
		name            string
		direct, through []string
		url, host, want string
		lookups         int
	}{
		{"no rules", nil, nil, "http://a.example/", "a.example", through, 0},
		{"a name", []string{"a.example"}, nil, "http://a.example/", "a.example", "DIRECT", 0},
		{"in capitals", []string{"a.example"}, nil, "http://A.Example./", "A.Example.", "DIRECT", 0},
		{"not below a name", []string{"a.example"}, nil, "http://b.a.example/", "b.a.example", through, 0},
		{"below", []string{"*.a.example"}, nil, "http://b.a.example/", "b.a.example", "DIRECT", 0},
		{"not itself", []string{"*.a.example"}, nil, "http://a.example/", "a.example", through, 0},
		{"not the end alone", []string{"*.a.example"}, nil, "http://ba.example/", "ba.example", through, 0},
		{"direct goes first", []string{"a.example"}, []string{"*"}, "http://a.example/", "a.example", "DIRECT", 0},
		{"through", nil, []string{"*.example"}, "http://a.example/", "a.example", through, 0},
		{"nothing of it", nil, []string{"*.example"}, "http://a.test/", "a.test", "DIRECT", 0},
		{"a network", []string{"10.0.0.0/8"}, nil, "http://10.9.8.7/", "10.9.8.7", "DIRECT", 0},
		{"beside it", []string{"10.0.0.0/8"}, nil, "http://11.0.0.1/", "11.0.0.1", through, 0},
		{"an odd length", []string{"10.0.0.0/13"}, nil, "http://10.7.255.255/", "10.7.255.255", "DIRECT", 0},
		{"beside that", []string{"10.0.0.0/13"}, nil, "http://10.8.0.0/", "10.8.0.0", through, 0},
		{"everything of IPv4", []string{"0.0.0.0/0"}, nil, "http://192.0.2.1/", "192.0.2.1", "DIRECT", 0},
		{"IPv6", []string{"2001:db8::/32"}, nil, "http://[2001:db8::1]/", "2001:db8::1", "DIRECT", 0},
		{"IPv6 in brackets", []string{"2001:db8::/33"}, nil, "http://[2001:db8:7fff::1]/", "[2001:db8:7fff::1]", "DIRECT", 0},
		{"beside IPv6", []string{"2001:db8::/33"}, nil, "http://[2001:db8:8000::1]/", "[2001:db8:8000::1]", through, 0},
		{"IPv4 in IPv6", []string{"10.0.0.0/8"}, nil, "http://[::ffff:10.0.0.1]/", "::ffff:a00:1", "DIRECT", 0},
		{"a name in a network", []string{"10.0.0.0/8", "10.0.0.0/16"}, nil, "http://ten.example/", "ten.example", "DIRECT", 1},
		{"one in IPv6", []string{"10.0.0.0/8", "2001:db8::/32"}, nil, "http://six.example/", "six.example", "DIRECT", 1},
		{"one that is not", []string{"10.0.0.0/8"}, []string{"10.0.0.0/16"}, "http://out.example/", "out.example", "DIRECT", 1},
		{"one that there is not", []string{"10.0.0.0/8"}, nil, "http://none.example/", "none.example", through, 1},
		{"known before", []string{"ten.example", "10.0.0.0/8"}, nil, "http://ten.example/", "ten.example", "DIRECT", 0},
		{"the port of a scheme", []string{"*:443"}, nil, "https://a.example/", "a.example", "DIRECT", 0},
		{"another", []string{"*:443"}, nil, "http://a.example/", "a.example", through, 0},
		{"a port", []string{"*:8000-8010"}, nil, "http://a.example:8005/:9", "a.example", "DIRECT", 0},
		{"a port with a user", []string{"*:8005"}, nil, "http://u:80@a.example:8005", "a.example", "DIRECT", 0},
		{"a port of IPv6", []string{"[::1]:81"}, nil, "http://[::1]:81/", "::1", "DIRECT", 0},
		{"no port of IPv6", []string{"*:1"}, nil, "http://[::1]/", "::1", through, 0},
		{"a port and no lookup", []string{"10.0.0.0/8:22"}, nil, "http://ten.example/", "ten.example", through, 0},
		{"a scheme nobody knows", []string{"*:80"}, nil, "gopher://a.example/", "a.example", through, 0},
		{"no URL", []string{"*:80"}, nil, "", "", through, 0},
	} {
		p := forward.PAC{Serve: true, Direct: rules(t, test.direct...), Through: rules(t, test.through...)}
		file, err := File(p, "proxy.example:3128", forward.HeadHTTP)
		if err != nil {
			t.Fatal(err)
		}
		b := newBrowser(t, file, names)
		if got := b.find(t, test.url, test.host); got != test.want || b.lookups != test.lookups {
			t.Errorf("%s: %s after %d lookups, want %s after %d", test.name, got, b.lookups, test.want, test.lookups)
		}
	}
}

func TestResult(t *testing.T) {
	for _, test := range []struct {
		addr string
		kind forward.Head
		want string // "" is refused
	}{
		{"127.0.0.1:1080", forward.HeadSocks, "SOCKS5 127.0.0.1:1080; SOCKS 127.0.0.1:1080"},
		{"proxy:80", forward.HeadHTTP, "PROXY proxy:80"},
		{"[::1]:3128", forward.HeadProxy, "PROXY [::1]:3128"},
		{"proxy", forward.HeadHTTP, ""},
		{"proxy:0", forward.HeadHTTP, ""},
		{"proxy:http", forward.HeadHTTP, ""},
		{":80", forward.HeadHTTP, ""},
		{"a;DIRECT:80", forward.HeadHTTP, ""},
		{`a":80`, forward.HeadHTTP, ""},
		{"[fe80::1%eth0]:80", forward.HeadHTTP, ""},
		{"proxy:80", forward.HeadNone, ""},
	} {
		got, err := result(test.addr, test.kind)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s %s: %q, %v, want %q", test.kind, test.addr, got, err, test.want)
		}
	}
}

// FuzzFile writes a file with a rule and asks it about a host; it has to say what the rule says.
func FuzzFile(f *testing.F) {
	for _, seed := range []struct {
		rule, host, addr string
		port             uint16
	}{
		{"a.example", "a.example", "proxy:80", 80}, {"*.example:443", "a.example", "proxy:80", 443}, {"10.0.0.0/9", "10.127.0.1", "p:1", 1},
		{"[2001:db8::]/45:80-90", "2001:db8:7::1", "[::1]:1", 80}, {"*", "::ffff:1.2.3.4", "a\";b:1", 7}, {"::ffff:0:0/96", "1.2.3.4", "p:1", 7},
	} {
		f.Add(seed.rule, seed.host, seed.addr, seed.port)
	}
	f.Fuzz(func(t *testing.T, text, host, proxy string, port uint16) {
		rule, err := forward.ParseRule(text)
		if err != nil {
			return
		}
		file, err := File(forward.PAC{Serve: true, Direct: []forward.Rule{rule}}, proxy, forward.HeadHTTP)
		if err != nil {
			return
		}
		addr, err := netip.ParseAddr(host)
		name := ""
		if err != nil {
			if name = host; strings.Trim(host, nameBytes) != "" || strings.HasSuffix(host, "..") {
				return // not what a browser would ask for
			}
		}
		written := host
		if addr.Is6() {
			addr = addr.WithZone("")
			written = "[" + addr.String() + "]"
		}
		want := "PROXY " + proxy
		if rule.Matches(name, addr, port) {
			want = "DIRECT"
		}
		b := newBrowser(t, file, nil)
		if got := b.find(t, "http://"+written+":"+strconv.Itoa(int(port))+"/", host); got != want && !(want != "DIRECT" && got != "DIRECT") {
			t.Errorf("rule %q, host %q, port %d: %q, want %q", rule, host, port, got, want)
		}
	})
}
