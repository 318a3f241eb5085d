package socks

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
)

// A script is a client that has said everything already, and an Env that remembers what it was asked for.
type script struct {
	net.Conn
	in    *bytes.Reader
	step  int // how many bytes a Read gives; 0: all
	out   bytes.Buffer
	login string // what is right, "user:password"; "": nobody has to log in
	asked []string
	fail  error
}

func (s *script) Read(b []byte) (int, error) {
	if s.step > 0 && len(b) > s.step {
		b = b[:s.step]
	}
	return s.in.Read(b)
}
func (s *script) Write(b []byte) (int, error)     { return s.out.Write(b) }
func (s *script) SetReadDeadline(time.Time) error { return nil }
func (s *script) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 9), Port: 999} }
func (s *script) LocalAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 1080} }

func (s *script) ask(format string, args ...any) error {
	s.asked = append(s.asked, fmt.Sprintf(format, args...))
	return s.fail
}

func (s *script) NeedsLogin() bool { return s.login != "" }
func (s *script) Login(_ context.Context, user, password string) error {
	if user+":"+password != s.login {
		return head.ErrLogin
	}
	return nil
}

func (s *script) Dial(_ context.Context, network, host string, port uint16) (net.Conn, error) {
	return bound{}, s.ask("dial %s %s %d", network, host, port)
}

func (s *script) Listen(_ context.Context, host string, port uint16) (net.Listener, error) {
	return closed{}, s.ask("listen %s %d", host, port)
}

func (s *script) ListenPacket(context.Context) (net.PacketConn, error) {
	return nil, errors.Join(s.ask("associate"), errors.New("no datagrams here"))
}
func (s *script) Packets(context.Context) (head.PacketTarget, error) { return nil, errors.New("none") }
func (s *script) Settled()                                           {}
func (s *script) Count(int, int)                                     {}

// errNoPeer is why a BIND ends that nobody calls, if the end of the script is not seen before.
var errNoPeer = errors.New("nobody calls")

// closed is a listener that nobody calls.
type closed struct{}

func (closed) Accept() (net.Conn, error) { return nil, errNoPeer }
func (closed) Close() error              { return nil }
func (closed) Addr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 0x1234} }

// bound is a connection to a target.
type bound struct{ net.Conn }

func (bound) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 5), Port: 0x1234} }
func (bound) Close() error        { return nil }

// message turns "05 01 'text' 00" into bytes.
func message(t testing.TB, s string) []byte {
	var b []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			b = append(b, part...)
			continue
		}
		bits, err := hex.DecodeString(strings.ReplaceAll(part, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		b = append(b, bits...)
	}
	return b
}

func TestMessages(t *testing.T) {
	long := strings.Repeat("a", 255)
	for _, test := range []struct {
		name, login, in string
		fail            error
		out, asked      string
		err             error // nil: there is a target
		ahead           string
	}{
		{"4", "", "04 01 0050 c0000207 'joe' 00 'GET'", nil, "00 5a 1234 c0000205", "dial tcp 192.0.2.7 80", nil, "GET"},
		{"4, no such port", "", "04 01 0050 c0000207 00", syscall.ECONNREFUSED, "00 5b 0000 00000000", "dial tcp 192.0.2.7 80", syscall.ECONNREFUSED, ""},
		{"4a", "", "04 01 0050 00000001 00 'example.com' 00", nil, "00 5a 1234 c0000205", "dial tcp example.com 80", nil, ""},
		{"4a, an address", "", "04 01 0050 00000001 00 '::ffff:192.0.2.1' 00", nil, "00 5a 1234 c0000205", "dial tcp 192.0.2.1 80", nil, ""},
		{"4a, a space", "", "04 01 0050 00000001 00 'a b' 00", nil, "00 5b 0000 00000000", "", ErrProtocol, ""},
		{"4a, empty", "", "04 01 0050 00000001 00 00", nil, "00 5b 0000 00000000", "", ErrProtocol, ""},
		{"4, a long user", "", "04 01 0050 c0000207 '" + long + "a' 00", nil, "", "", ErrProtocol, ""},
		{"4a, a long name", "", "04 01 0050 00000001 '" + long + "' 00 '" + long + "' 00 'x'", nil, "00 5a 1234 c0000205", "dial tcp " + long + " 80", nil, "x"},
		{"4, login", "joe:x", "04 01 0050 c0000207 'joe' 00", nil, "00 5d 0000 00000000", "", head.ErrLogin, ""},
		{"4, no command", "", "04 03 0050 c0000207 00", nil, "00 5b 0000 00000000", "", ErrProtocol, ""},
		{"4, port 0", "", "04 01 0000 c0000207 00", nil, "00 5b 0000 00000000", "", ErrProtocol, ""},
		{"4, bind", "", "04 02 0015 c0000207 00", nil, "00 5a 1234 c0000207 00 5b 0000 00000000", "listen 192.0.2.7 21", errNoPeer, ""},
		{"4a, bind for a name", "", "04 02 0015 00000001 00 'ftp.example' 00", nil, "00 5b 0000 00000000", "", errAddressType, ""},
		{"4, cut", "", "04 01 00", nil, "", "", io.ErrUnexpectedEOF, ""},

		{"5", "", "05 01 00 05 01 00 01 c0000207 0050 'GET'", nil, "05 00 05 00 00 01 c0000205 1234", "dial tcp 192.0.2.7 80", nil, "GET"},
		{"5, IPv6", "", "05 02 01 00 05 01 00 04 20010db8000000000000000000000001 0050", nil, "05 00 05 00 00 01 c0000205 1234", "dial tcp 2001:db8::1 80", nil, ""},
		{"5, IPv4 in IPv6", "", "05 01 00 05 01 00 04 00000000000000000000ffffc0000207 0050", nil, "05 00 05 00 00 01 c0000205 1234", "dial tcp 192.0.2.7 80", nil, ""},
		{"5, a name", "", "05 01 00 05 01 00 03 07 'example' 0050", nil, "05 00 05 00 00 01 c0000205 1234", "dial tcp example 80", nil, ""},
		{"5, a long name", "", "05 01 00 05 01 00 03 ff '" + long + "' 0050", nil, "05 00 05 00 00 01 c0000205 1234", "dial tcp " + long + " 80", nil, ""},
		{"5, the name of an address", "", "05 01 00 05 01 00 03 05 '[::1]' 0050", nil, "05 00 05 00 00 01 c0000205 1234", "dial tcp ::1 80", nil, ""},
		{"5, no name", "", "05 01 00 05 01 00 03 00 0050", nil, "05 00 05 01 00 01 00000000 0000", "", ErrProtocol, ""},
		{"5, a zero byte", "", "05 01 00 05 01 00 03 02 6100 0050", nil, "05 00 05 01 00 01 00000000 0000", "", ErrProtocol, ""},
		{"5, another type", "", "05 01 00 05 01 00 02 c0000207 0050", nil, "05 00 05 08 00 01 00000000 0000", "", ErrProtocol, ""},
		{"5, another command", "", "05 01 00 05 04 00 01 c0000207 0050", nil, "05 00 05 07 00 01 00000000 0000", "", ErrProtocol, ""},
		{"5, port 0", "", "05 01 00 05 01 00 01 c0000207 0000", nil, "05 00 05 01 00 01 00000000 0000", "", ErrProtocol, ""},
		{"5, another version", "", "05 01 00 04 01 00 01 c0000207 0050", nil, "05 00 05 01 00 01 00000000 0000", "", ErrProtocol, ""},
		{"5, bind", "", "05 01 00 05 02 00 01 c0000207 0015", nil, "05 00 05 00 00 01 c0000207 1234 05 01 00 01 00000000 0000", "listen 192.0.2.7 21", errNoPeer, ""},
		{"5, bind for a name", "", "05 01 00 05 02 00 03 01 'a' 0015", nil, "05 00 05 08 00 01 00000000 0000", "", errAddressType, ""},
		{"5, cut", "", "05 01 00 05 01 00 03 07 'exam'", nil, "05 00", "", io.ErrUnexpectedEOF, ""},
		{"5, no methods", "", "05 00", nil, "05 ff", "", ErrNoLogin, ""},
		{"5, GSSAPI alone", "", "05 01 01", nil, "05 ff", "", ErrNoLogin, ""},
		{"5, a password that nobody asked for", "", "05 01 02 01 03 'joe' 01 'x' 05 01 00 01 c0000207 0050", nil, "05 02 01 00 05 00 00 01 c0000205 1234", "dial tcp 192.0.2.7 80", nil, ""},
		{"5, login", "joe:secret", "05 02 00 02 01 03 'joe' 06 'secret' 05 01 00 01 c0000207 0050 'x'", nil, "05 02 01 00 05 00 00 01 c0000205 1234", "dial tcp 192.0.2.7 80", nil, "x"},
		{"5, the longest login", long + ":" + long, "05 01 02 01 ff '" + long + "' ff '" + long + "' 05 01 00 01 c0000207 0050", nil, "05 02 01 00 05 00 00 01 c0000205 1234", "dial tcp 192.0.2.7 80", nil, ""},
		{"5, wrong", "joe:secret", "05 01 02 01 03 'joe' 00 05 01 00 01 c0000207 0050", nil, "05 02 01 01", "", head.ErrLogin, ""},
		{"5, no login offered", "joe:secret", "05 01 00 05 01 00 01 c0000207 0050", nil, "05 ff", "", head.ErrLogin, ""},
		{"5, a login of another version", "joe:secret", "05 01 02 05 03 'joe' 00", nil, "05 02", "", ErrProtocol, ""},

		{"denied", "", "05 01 00 05 01 00 01 c0000207 0050", head.ErrDenied, "05 00 05 02 00 01 00000000 0000", "dial tcp 192.0.2.7 80", head.ErrDenied, ""},
		{"no network", "", "05 01 00 05 01 00 01 c0000207 0050", syscall.ENETUNREACH, "05 00 05 03 00 01 00000000 0000", "dial tcp 192.0.2.7 80", syscall.ENETUNREACH, ""},
		{"no host", "", "05 01 00 05 01 00 01 c0000207 0050", syscall.EHOSTUNREACH, "05 00 05 04 00 01 00000000 0000", "dial tcp 192.0.2.7 80", syscall.EHOSTUNREACH, ""},
		{"not found", "", "05 01 00 05 01 00 03 01 'a' 0050", head.ErrNotFound, "05 00 05 04 00 01 00000000 0000", "dial tcp a 80", head.ErrNotFound, ""},
		{"refused", "", "05 01 00 05 01 00 01 c0000207 0050", syscall.ECONNREFUSED, "05 00 05 05 00 01 00000000 0000", "dial tcp 192.0.2.7 80", syscall.ECONNREFUSED, ""},
		{"timed out", "", "05 01 00 05 01 00 01 c0000207 0050", context.DeadlineExceeded, "05 00 05 06 00 01 00000000 0000", "dial tcp 192.0.2.7 80", context.DeadlineExceeded, ""},
		{"unfit", "", "05 01 00 05 03 00 01 00000000 0000", head.ErrUnfit, "05 00 05 07 00 01 00000000 0000", "associate", head.ErrUnfit, ""},
		{"else", "", "05 01 00 05 01 00 01 c0000207 0050", io.ErrClosedPipe, "05 00 05 01 00 01 00000000 0000", "dial tcp 192.0.2.7 80", io.ErrClosedPipe, ""},

		{"HTTP", "", "'GET / HTTP/1.1'", nil, "", "", ErrProtocol, ""},
		{"nothing", "", "", nil, "", "", io.EOF, ""},
	} {
		for _, step := range []int{0, 1} {
			s := &script{in: bytes.NewReader(message(t, test.in)), step: step, login: test.login, fail: test.fail}
			out, err := New().Serve(t.Context(), s, s)
			if got, want := s.out.Bytes(), message(t, test.out); !bytes.Equal(got, want) {
				t.Errorf("%s: answered % x, want % x", test.name, got, want)
			}
			if got := strings.Join(s.asked, ", "); got != test.asked {
				t.Errorf("%s: asked for %q, want %q", test.name, got, test.asked)
			}
			if errors.Is(err, errClientGone) {
				err = errNoPeer
			}
			if !errors.Is(err, test.err) || (out.Target != nil) != (test.err == nil) {
				t.Errorf("%s: %v, %v, want %v", test.name, out.Target, err, test.err)
			}
			rest, _ := io.ReadAll(s.in)
			if out.Target != nil && string(out.Ahead)+string(rest) != test.ahead {
				t.Errorf("%s: %q and %q are left, want %q", test.name, out.Ahead, rest, test.ahead)
			}
		}
	}
}

func FuzzServe(f *testing.F) {
	for _, s := range []string{
		"04 01 0050 c0000207 'joe' 00", "04 02 0050 00000001 00 'example' 00 'x'", "05 01 00 05 01 00 01 c0000207 0050",
		"05 01 02 01 03 'joe' 01 'x' 05 02 00 03 01 'a' 0050", "05 01 00 05 03 00 04 00000000000000000000000000000000 0000",
	} {
		f.Add(message(f, s), false, byte(0))
		f.Add(message(f, s), true, byte(1))
	}
	f.Fuzz(func(t *testing.T, in []byte, login bool, step byte) {
		s := &script{in: bytes.NewReader(in), step: int(step)}
		if login {
			s.login = "joe:x"
		}
		out, err := New().Serve(t.Context(), s, s)
		if (out.Target != nil) != (err == nil) {
			t.Errorf("%v and %v", out.Target, err)
		}
		if out.Target != nil && login && !bytes.Contains(in, []byte("\x01\x03joe\x01x")) {
			t.Error("served without a login")
		}
		for _, asked := range s.asked {
			var network, host string
			var port uint16
			if n, _ := fmt.Sscanf(asked, "dial %s %s %d", &network, &host, &port); n > 0 && (n != 3 || port == 0) {
				t.Errorf("asked %q", asked)
			}
		}
	})
}

func FuzzDatagram(f *testing.F) {
	for _, s := range []string{
		"0000 00 01 c0000207 0035 'query'", "0000 00 03 01 'a' 0035", "0000 00 04 20010db8000000000000000000000001 0035 'x'",
		"0000 01 01 c0000207 0035", "0000 00 03 ff", "0000 00 09 00",
	} {
		f.Add(message(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		address, payload, ok := cutDatagram(b)
		if !ok {
			return
		}
		if b[fragmentAt] != 0 || addressAt+len(address)+len(payload) != len(b) {
			t.Errorf("% x became % x and % x", b, address, payload)
		}
		known := destinations{}
		to, ok := known.find(address)
		if again, same := known.find(address); again != to || same != ok {
			t.Errorf("% x is %v and then %v", address, to, again)
		}
		if !ok {
			return
		}
		if host, err := head.Host(to.host); err != nil || host != to.host {
			t.Errorf("%q: %q, %v", to.host, host, err)
		}
		// What comes from an address goes back with the same one.
		if ip, err := netip.ParseAddr(to.host); err == nil && address[0] != typeName {
			buf := make([]byte, bufferSize)
			n := copy(buf[maxHeader:], payload)
			back, rest, ok := cutDatagram(wrap(buf, n, netip.AddrPortFrom(ip, to.port)))
			if again, _ := known.find(back); !ok || again != to || !bytes.Equal(rest, payload) {
				t.Errorf("%v and % x came back as %v and % x", to, payload, again, rest)
			}
		}
	})
}

func TestDestinationsAreBounded(t *testing.T) {
	known := destinations{}
	for i := range 10 * maxDestinations {
		known.find(appendAddress(nil, netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 53)))
	}
	if len(known) > maxDestinations {
		t.Errorf("%d are known", len(known))
	}
}

func TestBoundFor(t *testing.T) {
	for _, test := range []struct{ local, remote, want string }{
		{"192.168.1.1", "192.168.1.9", "192.168.1.1:7"},
		{"127.0.0.1", "127.0.0.1", "127.0.0.1:7"},
		{"198.51.100.1", "203.0.113.9", "198.51.100.1:7"},
		{"198.51.100.1", "10.0.0.1", "198.51.100.1:7"},
		{"10.0.0.4", "203.0.113.9", "0.0.0.0:7"},
		{"fd00::4", "2001:db8::9", "[::]:7"},
		{"::ffff:10.0.0.4", "::ffff:10.0.0.5", "10.0.0.4:7"},
	} {
		conn := addressed{local: net.TCPAddr{IP: net.ParseIP(test.local)}, remote: net.TCPAddr{IP: net.ParseIP(test.remote)}}
		if got := boundFor(conn, 7).String(); got != test.want {
			t.Errorf("%s from %s: %s, want %s", test.local, test.remote, got, test.want)
		}
	}
}

type addressed struct {
	net.Conn
	local, remote net.TCPAddr
}

func (a addressed) LocalAddr() net.Addr  { return &a.local }
func (a addressed) RemoteAddr() net.Addr { return &a.remote }
