package forward_test

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// TestEqualNoticesEveryField sets each field of a Forward in turn. A field that Equal does not know fails here on the day
// that it is added.
func TestEqualNoticesEveryField(t *testing.T) {
	listen := map[string]bool{"Listen": true, "From": true, "Except": true, "Interface": true, "Hosts": true}
	for field := range reflect.TypeFor[forward.Forward]().Fields() {
		base, changed := newForward(t, "a", "80", "h"), newForward(t, "a", "80", "h")
		value := reflect.ValueOf(changed).Elem().FieldByIndex(field.Index)
		switch value.Interface().(type) {
		case forward.Listen:
			value.Set(reflect.ValueOf(newForward(t, "a", "81").Listen))
		case []forward.Target:
			value.Set(reflect.ValueOf(newForward(t, "a", "80", "i").To))
		case []netip.Prefix:
			value.Set(reflect.ValueOf(prefixes("10.0.0.0/8")))
		case forward.Schedule:
			value.Set(reflect.ValueOf(schedule(t, "mon")))
		case time.Time:
			value.Set(reflect.ValueOf(time.Unix(1, 0)))
		case forward.Check:
			value.Set(reflect.ValueOf(forward.Check{Kind: forward.CheckConnect}))
		case forward.Wake:
			value.Set(reflect.ValueOf(forward.Wake{MACs: []forward.MAC{{2}}}))
		case forward.Site:
			value.Set(reflect.ValueOf(forward.Site{TLS: forward.TLSACME}))
		case []string:
			value.Set(reflect.ValueOf([]string{"x"}))
		case forward.Policy:
			value.Set(reflect.ValueOf(forward.Policy{Deny: rules(t, "*")}))
		case forward.PAC:
			value.Set(reflect.ValueOf(forward.PAC{Serve: true}))
		case forward.Range:
			value.Set(reflect.ValueOf(forward.Range{First: 1, Last: 2}))
		case forward.Publish:
			value.Set(reflect.ValueOf(forward.Publish{On: true}))
		case *forward.Lease:
			value.Set(reflect.ValueOf(&forward.Lease{Description: "x"}))
		case bool:
			value.SetBool(true)
		default:
			switch {
			case value.CanInt():
				value.SetInt(1)
			case value.CanUint():
				value.SetUint(1)
			case value.Kind() == reflect.String:
				value.SetString("x")
			default:
				t.Fatalf("%s: teach this test the type %s", field.Name, field.Type)
			}
		}
		if base.Equal(changed) || changed.Equal(base) {
			t.Errorf("Equal does not look at %s", field.Name)
		}
		if got := base.SameListener(changed); got == listen[field.Name] {
			t.Errorf("SameListener with another %s: %v", field.Name, got)
		}
	}
	for field := range reflect.TypeFor[forward.Listen]().Fields() {
		var a, b forward.Listen
		switch value := reflect.ValueOf(&b).Elem().FieldByIndex(field.Index); field.Name {
		case "Networks":
			value.SetUint(1)
		case "Addr":
			value.Set(reflect.ValueOf(netip.MustParseAddr("192.0.2.1")))
		case "Ports":
			value.Set(reflect.ValueOf(forward.Ports{All: true}))
		case "Path":
			value.SetString("/x")
		default:
			t.Fatalf("teach this test Listen.%s", field.Name)
		}
		if a.Equal(b) {
			t.Errorf("Listen.Equal does not look at %s", field.Name)
		}
	}
	a, b := newForward(t, "a", "80", "h"), newForward(t, "a", "80", "h")
	a.At, b.Via = forward.Host, forward.Host
	a.Expires, b.Expires = time.Unix(5, 0).UTC(), time.Unix(5, 0).In(time.FixedZone("", 3600))
	if !a.Equal(b) || !a.Equal(a) {
		t.Error("two ways to write the same are not equal")
	}
}

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "0", "web", "www.example.com", "a_b-c", strings.Repeat("a", 64)} {
		if err := forward.CheckName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	for _, name := range []string{"", ".a", "-a", "_a", "a b", "a/b", "ä", "a\n", "a\x00", "a\"", strings.Repeat("a", 65), strings.Repeat("ä", 40)} {
		if forward.CheckName(name) == nil {
			t.Errorf("%q passed", name)
		}
	}
}

func TestValidate(t *testing.T) {
	type edit = func(f *forward.Forward)
	for _, test := range []struct {
		name, listen string
		to           []string
		edit         edit
		fields       string // of the errors; "" is valid
	}{
		{"plain", "80", []string{"192.168.1.10:8080"}, nil, ""},
		{"several targets", "80", []string{"a", "b:80"}, nil, ""},
		{"shift", "8000-8010", []string{"h:9000-9010"}, nil, ""},
		{"list onto one", "80,443", []string{"h:80"}, nil, ""},
		{"everything", "tcp+udp/*", []string{"192.168.1.50"}, nil, ""},
		{"unix to unix", "unix:/a", []string{"unix:/b"}, nil, ""},
		{"unix to a port", "unix:/a", []string{":80"}, nil, ""},
		{"kernel", "80", []string{"192.168.1.10"}, func(f *forward.Forward) { f.Carry = forward.CarryKernel }, ""},
		{"keep", "80", []string{"192.168.1.10"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, ""},
		{"v4 to v6", "192.0.2.1:80", []string{"2001:db8::1"}, nil, ""},

		{"no target", "80", nil, nil, "to"},
		{"bad name", "80", []string{"h"}, func(f *forward.Forward) { f.Name = "a b" }, "name"},
		{"unequal", "8000-8010", []string{"h:9000-9005"}, nil, "to"},
		{"list onto range", "80,443", []string{"h:80-81"}, nil, "to"},
		{"everything to a range", "*", []string{"192.168.1.10:80-90"}, nil, "to"},
		{"everything to the first of several", "*", []string{"192.168.1.10", "192.168.1.11"}, nil, "listen"},
		{"everything to several in turn", "*", []string{"192.168.1.10", "192.168.1.11"}, func(f *forward.Forward) { f.Balance = forward.BalanceRoundRobin }, ""},
		{"everything to a name", "*", []string{"h"}, nil, "listen"},
		{"everything to here", "*", []string{":80"}, nil, "to"},
		{"everything by the relay", "*", []string{"192.168.1.10"}, func(f *forward.Forward) { f.Carry = forward.CarryRelay }, "carry"},
		{"udp to unix", "udp/53", []string{"unix:/a"}, nil, "to"},
		{"both to unix", "tcp+udp/53", []string{"h", "unix:/a"}, nil, "to"},
		{"unix without a port", "unix:/a", []string{"h"}, nil, "to"},
		{"unix to a range", "unix:/a", []string{"h:80-90"}, nil, "to"},
		{"unix to itself", "unix:/a", []string{"unix:/a"}, nil, "to"},
		{"unix from", "unix:/a", []string{":80"}, func(f *forward.Forward) {
			f.From, f.Except, f.Interface, f.MaxPerSource, f.Source = prefixes("10.0.0.0/8"), prefixes("10.0.0.1/32"), "eth0", 1, forward.SourceRewrite
			f.BandwidthPerSource = 1
		}, "bandwidth_per_source except from interface max_per_source source"},
		{"udp and the PROXY protocol", "udp/53", []string{"h"}, func(f *forward.Forward) { f.SendProxy, f.AcceptProxy = 1, prefixes("10.0.0.0/8") }, "send_proxy"},
		{"udp and version 2", "tcp+udp/53", []string{"h"}, func(f *forward.Forward) { f.SendProxy, f.AcceptProxy = 2, prefixes("10.0.0.0/8") }, ""},
		{"negative", "80", []string{"h"}, func(f *forward.Forward) {
			f.MaxConnections, f.MaxPerSource, f.Bandwidth, f.BandwidthPerSource = -1, -1, -1, -1
		}, "bandwidth bandwidth_per_source max_connections max_per_source"},
		{"kernel cannot", "80", []string{"h"}, func(f *forward.Forward) { f.Carry = forward.CarryKernel }, "carry"},
		{"relay keeps", "80", []string{"192.168.1.1"}, func(f *forward.Forward) { f.Carry, f.Source = forward.CarryRelay, forward.SourceKeep }, ""},
		{"relay has to and keeps", "80", []string{"h"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, ""},
		{"keep of a unix client", "unix:/a", []string{"h:80"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, "source"},
		{"keep towards a unix socket", "80", []string{"unix:/a"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, "source"},
		{"keep towards this host, by the kernel", "80", []string{":8080"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, ""},
		{"keep towards this host", "80", []string{":8080"}, func(f *forward.Forward) { f.Source, f.Bandwidth = forward.SourceKeep, 1 }, "source"},
		{"keep towards loopback", "80", []string{"127.0.0.1:81"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, "source"},
		{"keep of loopback", "127.0.0.1:80", []string{"h"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, "source"},
		{"keep of whom a local proxy speaks for", "127.0.0.1:80", []string{"h"}, func(f *forward.Forward) {
			f.Source, f.AcceptProxy = forward.SourceKeep, prefixes("127.0.0.0/8")
		}, ""},
		{"keep from another node", "80", []string{"h"}, func(f *forward.Forward) { f.Source, f.Via = forward.SourceKeep, "far" }, "source"},
		{"keep across families", "0.0.0.0:80", []string{"[fd00::1]:80"}, func(f *forward.Forward) { f.Source = forward.SourceKeep }, "source"},
		{"keep of clients of another family", "80", []string{"192.168.1.1"}, func(f *forward.Forward) {
			f.Source, f.From, f.Bandwidth = forward.SourceKeep, prefixes("2001:db8::/32"), 1
		}, "source"},

		{"to itself", "80", []string{":80"}, nil, "to"},
		{"to itself in a range", "8000-8010", []string{":8005-8015"}, nil, "to"},
		{"to itself on loopback", "80", []string{"127.0.0.1"}, nil, "to"},
		{"to itself on loopback, v6", "[::]:80", []string{"[::1]:80"}, nil, "to"},
		{"to its own address, a pinhole", "192.0.2.1:80", []string{"192.0.2.1:80"}, nil, ""},
		{"a pinhole that keeps its ports", "[2001:db8::1]:80-90", []string{"2001:db8::1"}, nil, ""},
		{"a pinhole of a host", "[2001:db8::1]:*", []string{"2001:db8::1"}, nil, ""},
		{"a pinhole of a range", "[2001:db8::1]:80-90", []string{"[2001:db8::1]:80-90"}, nil, ""},
		{"to one port of its own range", "192.0.2.1:80-90", []string{"192.0.2.1:85"}, nil, "to"},
		{"to its own address among others", "192.0.2.1:80", []string{"192.0.2.1:80", "192.0.2.2:80"}, nil, "to"},
		{"to its own loopback", "127.0.0.1:80", []string{"127.0.0.1:80"}, nil, "to"},
		{"a pinhole by the relay", "192.0.2.1:80", []string{"192.0.2.1:80"}, func(f *forward.Forward) { f.Carry = forward.CarryRelay }, "to"},
		{"a pinhole with limits", "192.0.2.1:80", []string{"192.0.2.1:80"}, func(f *forward.Forward) { f.MaxConnections = 2 }, "to"},
		{"a pinhole that rewrites", "192.0.2.1:80", []string{"192.0.2.1:80"}, func(f *forward.Forward) { f.Source = forward.SourceRewrite }, "to"},
		{"to another port here", "80", []string{":8080"}, nil, ""},
		{"to loopback from one address", "192.0.2.1:80", []string{"127.0.0.1:80"}, nil, ""},
		{"to loopback from one interface", "80", []string{"127.0.0.1:80"}, func(f *forward.Forward) { f.Interface = "eth0" }, ""},
		{"to loopback of the other family", "0.0.0.0:80", []string{"[::1]:80"}, nil, ""},
	} {
		f := newForward(t, "a", test.listen, test.to...)
		if test.edit != nil {
			test.edit(f)
		}
		if got := fieldsOf(t, f.Validate()); got != test.fields {
			t.Errorf("%s: errors about %q, want %q: %v", test.name, got, test.fields, f.Validate())
		}
	}
}

// fieldsOf is what the field errors in err are about, sorted.
func fieldsOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	seen := map[string]bool{}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("%v is not several errors joined", err)
	}
	for _, one := range joined.Unwrap() {
		var field *forward.FieldError
		if !errors.As(one, &field) {
			t.Fatalf("%v is no FieldError", one)
		}
		name := field.Field
		if name == "" {
			name = "name"
		}
		seen[name] = true
	}
	var list []string
	for _, name := range strings.Fields(`accept_proxy bandwidth bandwidth_per_source carry check check_interval connect_timeout deny direct dmz drain endpoint_independent
		except fast_open from idle_timeout interface lan listen max_connections max_per_source name open pac permit send_proxy
		slow_start snat source through to udp_idle users wake wake_password wake_timeout wan`) {
		if seen[name] {
			list = append(list, name)
			delete(seen, name)
		}
	}
	if len(seen) > 0 {
		t.Fatalf("fields that are no keys: %v", seen)
	}
	return strings.Join(list, " ")
}

func TestNeedsRelay(t *testing.T) {
	for _, test := range []struct {
		listen, to, want string
	}{
		{"80", "192.168.1.10", ""},
		{"80", ":8080", ""},
		{"80", "h", "host name"},
		{"80", "127.0.0.1:81", "loopback"},
		{"127.0.0.1:80", "192.168.1.10", "loopback"},
		{"80", "unix:/a", "unix socket"},
		{"unix:/a", "h:80", "unix socket"},
		{"[2001:db8::1]:80", "192.168.1.10", "IPv4 and IPv6"},
	} {
		why := newForward(t, "a", test.listen, test.to).NeedsRelay()
		if (why == "") != (test.want == "") || !strings.Contains(why, test.want) {
			t.Errorf("%s to %s: %q, want %q", test.listen, test.to, why, test.want)
		}
	}
}

func TestBalanceNeedsRelay(t *testing.T) {
	many := make([]string, 33)
	for i := range many {
		many[i] = fmt.Sprintf("192.168.1.%d", i+1)
	}
	two := []string{"192.168.1.10", "192.168.1.11"}
	const turns, source = forward.BalanceRoundRobin, forward.BalanceSource
	for _, test := range []struct {
		listen  string
		to      []string
		balance forward.Balance
		want    string // a part of the reason; "" is none
	}{
		{"80", two, turns, ""},
		{"80", two, source, ""},
		{"80", many[:32], turns, ""},
		{"80,8000-8010", []string{"192.168.1.10:80", "192.168.1.11:81"}, turns, ""},
		{"80,443", []string{"192.168.1.10:80", "192.168.1.11"}, turns, ""},
		{"80-81", []string{"192.168.1.10:90-91", "192.168.1.10:92-93"}, turns, ""},
		{"*", two, turns, ""},
		{"80", two, forward.BalanceFailover, "failover"},
		{"80", two, forward.BalanceLeast, "least"},
		{"80", many, source, "33 targets"},
		{"80", []string{"192.168.1.10", "app"}, turns, "target app is a host name"},
		{"80", []string{"192.168.1.10", "127.0.0.1"}, turns, "loopback"},
		{"80", []string{"192.168.1.10", ":81"}, turns, "a port of this host"},
		{"80", []string{":81", ":82"}, turns, "a port of this host"},
		{"80", []string{"192.168.1.10", "2001:db8::1"}, turns, "both IP families"},
		{"0.0.0.0:80", []string{"192.168.1.10", "2001:db8::1"}, turns, "IPv4 and IPv6"},
		{"80-81", []string{"192.168.1.10", "192.168.1.11:80"}, turns, "differently"},
		{"80-81", []string{"192.168.1.10:80-81", "192.168.1.11:90-91"}, turns, "differently"},
		{"*", []string{"192.168.1.10", "192.168.1.11:80"}, turns, "differently"},
		{"10000-29999", []string{"192.168.1.10:20000-39999", "192.168.1.11:20000-39999"}, turns, "too much"},
	} {
		f := newForward(t, "a", test.listen, test.to...)
		f.Balance = test.balance
		if why := f.NeedsRelay(); (why == "") != (test.want == "") || !strings.Contains(why, test.want) {
			t.Errorf("%s to %s by %s: %q, want %q", test.listen, test.to, test.balance, why, test.want)
		}
	}
}

// TestLongKeys has the forwards whose keys would not fit the kernel.
func TestLongKeys(t *testing.T) {
	for _, test := range []struct {
		listen string
		to     []string
		fits   bool
	}{
		{"192.0.2.1:80", []string{"192.168.1.10"}, true},
		{"0.0.0.0:80", []string{"192.168.1.10", "192.168.1.11"}, true},
		{"192.0.2.1:80", []string{"192.168.1.10", "192.168.1.11"}, false},
		{"[2001:db8::1]:80", []string{"2001:db8::2"}, false},
	} {
		f := newForward(t, "a", test.listen, test.to...)
		f.Balance, f.Interface, f.Except = forward.BalanceSource, "wan", prefixes("192.0.2.0/24")
		if why := f.NeedsRelay(); (why == "") != test.fits {
			t.Errorf("%s to %s: %q", test.listen, test.to, why)
		}
	}
}

func TestWords(t *testing.T) {
	for _, s := range []string{"auto", "kernel", "relay"} {
		if c, err := forward.ParseCarry(s); err != nil || c.String() != s {
			t.Errorf("%s: %v, %v", s, c, err)
		}
	}
	for _, s := range []string{"auto", "keep", "rewrite"} {
		if c, err := forward.ParseSource(s); err != nil || c.String() != s {
			t.Errorf("%s: %v, %v", s, c, err)
		}
	}
	for _, s := range []string{"failover", "round-robin", "least", "source"} {
		if c, err := forward.ParseBalance(s); err != nil || c.String() != s {
			t.Errorf("%s: %v, %v", s, c, err)
		}
	}
	if _, err := forward.ParseCarry("user"); err == nil {
		t.Error("carry = user passed")
	}
	sum := forward.Stats{Open: 1, Total: 2, Refused: 3, BytesIn: 4, BytesOut: 5}.Add(forward.Stats{Open: 1, Total: 1, Refused: 1, BytesIn: 1, BytesOut: 1, Note: "x"})
	if !reflect.DeepEqual(sum, forward.Stats{Open: 2, Total: 3, Refused: 4, BytesIn: 5, BytesOut: 6, Note: "x"}) {
		t.Errorf("sum %+v", sum)
	}
}
