package forward_test

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

func TestValidateRelayed(t *testing.T) {
	type edit = func(f *forward.Forward)
	both, two := "tcp+udp/80", []string{"h", "192.168.1.10:81"}
	check := func(s string) edit { return func(f *forward.Forward) { f.Check = parseCheck(t, s) } }
	drain := func(s ...string) edit {
		return func(f *forward.Forward) { f.Drain = newForward(t, "x", "80", s...).To }
	}
	wake := func(n int) edit {
		return func(f *forward.Forward) { f.Wake.MACs = make([]forward.MAC, n) }
	}
	times := func(d time.Duration) edit {
		return func(f *forward.Forward) {
			f.ConnectTimeout, f.IdleTimeout, f.UDPIdle, f.Check.Interval, f.SlowStart, f.Wake.Timeout = d, d, d, d, d, d
			f.Check.Kind, f.Balance, f.Wake.MACs = forward.CheckConnect, forward.BalanceLeast, []forward.MAC{{2}}
		}
	}
	const every = "check_interval connect_timeout idle_timeout slow_start udp_idle wake_timeout"
	slow := func(b forward.Balance) edit {
		return func(f *forward.Forward) { f.SlowStart, f.Balance = time.Minute, b }
	}
	fastOpen := func(f *forward.Forward) { f.FastOpen = true }
	for _, test := range []struct {
		name, listen string
		to           []string
		edit         edit
		fields       string // of the errors; "" is valid
	}{
		{"times", both, two, times(time.Minute), ""},
		{"times, too short", both, two, times(time.Millisecond), every},
		{"times, negative", both, two, times(-time.Second), every},
		{"times, too long", both, two, times(forward.MaxDuration + 1), every},
		{"times of tcp for udp", "udp/80", []string{"h"}, func(f *forward.Forward) { f.ConnectTimeout, f.IdleTimeout = time.Second, time.Second }, "connect_timeout idle_timeout"},
		{"times of udp for tcp", "80", []string{"h"}, func(f *forward.Forward) { f.UDPIdle = time.Second }, "udp_idle"},
		{"times of udp for unix", "unix:/a", []string{"h:80"}, func(f *forward.Forward) { f.UDPIdle = time.Second }, "udp_idle"},
		{"idle unix", "unix:/a", []string{"h:80"}, func(f *forward.Forward) { f.IdleTimeout, f.ConnectTimeout = time.Hour, time.Second }, ""},
		{"everything", "*", []string{"192.168.1.50"}, func(f *forward.Forward) { f.IdleTimeout = time.Hour }, "listen"},
		{"kernel", "80", []string{"192.168.1.50"}, func(f *forward.Forward) { f.IdleTimeout, f.Carry = time.Hour, forward.CarryKernel }, "carry"},

		{"check", "80", []string{"h"}, check("connect"), ""},
		{"check a unix socket", "80", []string{"unix:/a"}, check("http://h/"), ""},
		{"check a unix socket's port", "80", []string{"unix:/a"}, check("http://h:80/"), "check"},
		{"check from a unix socket", "unix:/a", []string{"h:80"}, check("connect"), ""},
		{"check both", both, []string{"h"}, check("connect"), ""},
		{"check udp", "udp/80", []string{"h"}, check("connect"), "check"},
		{"check udp by http", "udp/80", []string{"h"}, check("http://h"), "check"},
		{"check udp at another port", "udp/80", []string{"h"}, check("http://h:8080"), ""},
		{"check several ports", "80,443", []string{"h"}, check("connect"), "check"},
		{"check a range", "80-90", []string{"h:80-90"}, check("http://h"), "check"},
		{"check one of several ports", "80,443", []string{"h"}, check("http://h:80"), ""},
		{"check several ports on one", "80,443", []string{"h:80"}, check("connect"), ""},
		{"check everything", "*", []string{"192.168.1.50"}, check("http://h:80"), "listen"},
		{"interval alone", "80", []string{"h"}, func(f *forward.Forward) { f.Check.Interval = time.Second }, "check_interval"},

		{"slow start", "80", two, slow(forward.BalanceRoundRobin), ""},
		{"slow start, failover", "80", two, slow(forward.BalanceFailover), "slow_start"},
		{"slow start, source", "80", two, slow(forward.BalanceSource), "slow_start"},
		{"slow start, one target", "80", []string{"h"}, slow(forward.BalanceLeast), "slow_start"},

		{"drain", "80", two, drain("192.168.1.10:81"), ""},
		{"drain all", "80", two, drain(two...), ""},
		{"drain another", "80", two, drain("192.168.1.10"), "drain"},
		{"drain twice", "80", two, drain("h", "h"), "drain"},

		{"wake", "80", []string{"h"}, wake(1), ""},
		{"wake by several cards", "80", []string{"h"}, wake(3), ""},
		{"wake one host of several targets", "80", two, wake(1), ""},
		{"wake each", "80", two, wake(2), ""},
		{"wake who", "80", two, wake(3), "wake"},
		{"wake udp", "udp/80", []string{"h"}, wake(1), ""},
		{"wake here", "80", []string{":81"}, wake(1), "wake"},
		{"wake loopback", "80", []string{"127.0.0.1:81"}, wake(1), "wake"},
		{"wake unix", "80", []string{"unix:/a"}, wake(1), "wake"},
		{"wake nobody", "80", []string{"h"}, func(f *forward.Forward) {
			f.Wake.Timeout = time.Minute
			f.Wake.Password, _ = forward.ParseWakePassword("192.0.2.1")
		}, "wake_password wake_timeout"},

		{"fast open", both, []string{"h"}, fastOpen, ""},
		{"fast open, unix and tcp", "unix:/a", []string{"h:80"}, fastOpen, ""},
		{"fast open, tcp and unix", "80", []string{"unix:/a"}, fastOpen, ""},
		{"fast open, unix", "unix:/a", []string{"unix:/b"}, fastOpen, "fast_open"},
		{"fast open, udp", "udp/80", []string{"h"}, fastOpen, "fast_open"},
	} {
		f := newForward(t, "a", test.listen, test.to...)
		test.edit(f)
		if got := fieldsOf(t, f.Validate()); got != test.fields {
			t.Errorf("%s: errors about %q, want %q: %v", test.name, got, test.fields, f.Validate())
		}
	}
}

// TestRelayKeys: what the relay alone honours is never left to the kernel, which would ignore it.
func TestRelayKeys(t *testing.T) {
	for want, edit := range map[string]func(f *forward.Forward){
		"connect_timeout":      func(f *forward.Forward) { f.ConnectTimeout = time.Second },
		"idle_timeout":         func(f *forward.Forward) { f.IdleTimeout = time.Second },
		"udp_idle":             func(f *forward.Forward) { f.UDPIdle = time.Second },
		"bandwidth_per_source": func(f *forward.Forward) { f.BandwidthPerSource = 1 },
		"check":                func(f *forward.Forward) { f.Check.Kind = forward.CheckConnect },
		"slow_start":           func(f *forward.Forward) { f.SlowStart = time.Second },
		"drain":                func(f *forward.Forward) { f.Drain = f.To },
		"wake":                 func(f *forward.Forward) { f.Wake.MACs = []forward.MAC{{2}} },
		"fast_open":            func(f *forward.Forward) { f.FastOpen = true },
	} {
		f := newForward(t, "a", "80", "192.168.1.10")
		edit(f)
		if why := f.NeedsRelay(); !strings.HasPrefix(why, want+" ") {
			t.Errorf("%s: %q", want, why)
		}
	}
}

func TestDraining(t *testing.T) {
	f := newForward(t, "a", "80", "h", "192.168.1.10:81")
	f.Drain = f.To[1:]
	if f.Draining(f.To[0]) || !f.Draining(f.To[1]) {
		t.Error("the wrong target drains")
	}
}

func TestWakeMACs(t *testing.T) {
	a, b := forward.MAC{2, 1}, forward.MAC{2, 2}
	for _, test := range []struct {
		to   []string
		macs []forward.MAC
		want [][]forward.MAC // by target
	}{
		{[]string{"h"}, nil, [][]forward.MAC{nil}},
		{[]string{"h"}, []forward.MAC{a}, [][]forward.MAC{{a}}},
		{[]string{"h"}, []forward.MAC{a, b}, [][]forward.MAC{{a, b}}},
		{[]string{"h", "i"}, []forward.MAC{a}, [][]forward.MAC{{a}, {a}}},
		{[]string{"h", "i"}, []forward.MAC{a, b}, [][]forward.MAC{{a}, {b}}},
	} {
		f := newForward(t, "a", "80", test.to...)
		f.Wake.MACs = test.macs
		for i, want := range test.want {
			if got := (forward.Wake{MACs: f.WakeMACs(i)}); !got.Equal(forward.Wake{MACs: want}) {
				t.Errorf("%v for %v: target %d has %v, want %v", test.macs, test.to, i, got.MACs, want)
			}
		}
	}
}
