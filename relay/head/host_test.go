package head

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
)

func TestHost(t *testing.T) {
	for _, test := range []struct{ in, want string }{ // want "" is refused
		{"192.0.2.1", "192.0.2.1"},
		{"::ffff:192.0.2.1", "192.0.2.1"},
		{"[::ffff:192.0.2.1]", "192.0.2.1"},
		{"2001:DB8:0::1", "2001:db8::1"},
		{"[2001:db8::1]", "2001:db8::1"},
		{"fe80::1%eth0", "fe80::1%eth0"},
		{"2001:db8::1%eth0", "2001:db8::1"},
		{"Example.com", "Example.com"},
		{"a_b.example.", "a_b.example."},
		{"münchen.example", "münchen.example"},
		{strings.Repeat("a", 255), strings.Repeat("a", 255)},
		{strings.Repeat("a", 256), ""},
		{"", ""},
		{"a b", ""},
		{"a\x00b", ""},
		{"a\x7f", ""},
		{"a\r\nb", ""},
		{"a:80", ""},
		{"[192.0.2.1]", ""},
		{"[::1", ""},
		{"::1]", ""},
		{"[]", ""},
		{"a/b", ""},
		{"u@h", ""},
		{"a%00", ""},
	} {
		got, err := Host(test.in)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%q: %q, %v; want %q", test.in, got, err, test.want)
		}
	}
}

func FuzzHost(f *testing.F) {
	for _, s := range []string{"192.0.2.1", "[::1]", "fe80::1%a", "example.com", "::ffff:1.2.3.4%x", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, err := Host(s)
		if err != nil {
			return
		}
		if again, err := Host(host); err != nil || again != host {
			t.Errorf("%q became %q, and that %q, %v", s, host, again, err)
		}
		if addr, err := netip.ParseAddr(host); err == nil && addr.Is4In6() {
			t.Errorf("%q became %q", s, host)
		}
	})
}

func TestAddrPort(t *testing.T) {
	for _, test := range []struct {
		in   net.Addr
		want string
	}{
		{&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}, "192.0.2.1:80"},
		{&net.UDPAddr{IP: net.ParseIP("2001:db8::1"), Port: 80}, "[2001:db8::1]:80"},
		{&net.UnixAddr{Name: "/run/x", Net: "unix"}, "invalid AddrPort"},
		{nil, "invalid AddrPort"},
	} {
		if got := AddrPort(test.in); got.String() != test.want {
			t.Errorf("%v: %v, want %s", test.in, got, test.want)
		}
	}
}

func TestReasonOf(t *testing.T) {
	for _, test := range []struct {
		err  error
		want Reason
	}{
		{ErrDenied, Denied},
		{ErrNotFound, NotFound},
		{&net.DNSError{IsNotFound: true}, NotFound},
		{&net.DNSError{IsTimeout: true}, TimedOut},
		{ErrUnfit, Unfit},
		{&net.OpError{Op: "dial", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, Refused},
		{syscall.EHOSTUNREACH, HostUnreachable},
		{syscall.ENETUNREACH, NetworkUnreachable},
		{syscall.ETIMEDOUT, TimedOut},
		{context.DeadlineExceeded, TimedOut},
		{os.ErrDeadlineExceeded, TimedOut},
		{errors.New("else"), Failed},
	} {
		if got := ReasonOf(fmt.Errorf("dial: %w", test.err)); got != test.want {
			t.Errorf("%v: %d, want %d", test.err, got, test.want)
		}
	}
}
