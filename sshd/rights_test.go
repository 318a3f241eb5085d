package sshd

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/sshchan"
)

func rules(t *testing.T, list ...string) []forward.Rule {
	t.Helper()
	var rules []forward.Rule
	for _, s := range list {
		r, err := forward.ParseRule(s)
		if err != nil {
			t.Fatal(err)
		}
		rules = append(rules, r)
	}
	return rules
}

// TestWhereChannelsLead asks for channels and looks at what is dialled.
func TestWhereChannelsLead(t *testing.T) {
	type policy = forward.Policy
	names := map[string][]netip.Addr{
		"db.internal": {netip.MustParseAddr("10.0.0.5")},
		"mixed":       {netip.MustParseAddr("10.0.0.5"), netip.MustParseAddr("192.0.2.5")},
	}
	for _, test := range []struct {
		options string
		policy  policy
		to      string
		want    string // what is dialled, or "" for a refusal
	}{
		{"", policy{}, "db.internal:80", "tcp db.internal:80"},
		{"", policy{}, "10.0.0.5:80", "tcp 10.0.0.5:80"},
		{"", policy{}, "/run/x.sock", "unix /run/x.sock"},
		{"restrict", policy{}, "db.internal:80", ""},
		{"restrict", policy{}, "/run/x.sock", ""},
		{"no-port-forwarding", policy{}, "db.internal:80", ""},
		{`permitopen="db.internal:80"`, policy{}, "db.internal:80", "tcp db.internal:80"},
		{`permitopen="db.internal:80"`, policy{}, "DB.internal.:80", "tcp DB.internal.:80"},
		{`permitopen="db.internal:80"`, policy{}, "db.internal:81", ""},
		{`permitopen="db.internal:80"`, policy{}, "10.0.0.5:80", ""},
		{`permitopen="db.internal:80"`, policy{}, "/run/x.sock", ""},
		{`permitopen="*:*"`, policy{}, "/run/x.sock", "unix /run/x.sock"},
		{`permitopen="*:80"`, policy{}, "anything:80", "tcp anything:80"},
		{`permitopen="anything:*"`, policy{}, "anything:99", "tcp anything:99"},
		{`permitopen="[::ffff:10.0.0.5]:80"`, policy{}, "10.0.0.5:80", "tcp 10.0.0.5:80"},
		{"", policy{Deny: rules(t, "10.0.0.0/8")}, "10.0.0.5:80", ""},
		{"", policy{Deny: rules(t, "10.0.0.0/8")}, "[::ffff:10.0.0.5]:80", ""},
		{"", policy{Deny: rules(t, "10.0.0.0/8")}, "db.internal:80", ""},
		{"", policy{Deny: rules(t, "10.0.0.0/8")}, "mixed:80", "tcp 192.0.2.5:80"},
		{"", policy{Deny: rules(t, "10.0.0.0/8")}, "/run/x.sock", "unix /run/x.sock"},
		{"", policy{Permit: rules(t, "10.0.0.0/8")}, "db.internal:80", "tcp 10.0.0.5:80"},
		{"", policy{Permit: rules(t, "10.0.0.0/8")}, "mixed:80", "tcp 10.0.0.5:80"},
		{"", policy{Permit: rules(t, "10.0.0.0/8")}, "/run/x.sock", ""},
		{"", policy{Permit: rules(t, "10.0.0.0/8")}, "unknown:80", ""},
		{"", policy{Permit: rules(t, "*.internal")}, "db.internal:80", "tcp db.internal:80"},
		{"", policy{Permit: rules(t, "*.internal")}, "10.0.0.5:80", ""},
		{"", policy{Permit: rules(t, "*")}, "/run/x.sock", "unix /run/x.sock"},
		{"", policy{}, "relative.sock", ""},
		{"", policy{}, "a:0", ""},
	} {
		key := newTestKey(t)
		var dialled atomic.Value
		dialled.Store("")
		s := startServer(t, func(o *Options) {
			o.Policy = test.policy
			o.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
				if names[host] == nil {
					return nil, errors.New("no such host")
				}
				return names[host], nil
			}
			o.Connect = nil
			o.Dial = func(_ context.Context, _ netip.AddrPort, network, addr string) (net.Conn, error) {
				dialled.Store(network + " " + addr)
				a, b := net.Pipe()
				b.Close()
				return a, nil
			}
		}, key.line(test.options, "k"))
		c := s.dial(t, key)
		kind, payload := sshchan.DirectUnix, ssh.Marshal(sshchan.DirectUnixChannel{Path: test.to})
		if host, port, err := net.SplitHostPort(test.to); err == nil {
			p, _ := net.LookupPort("tcp", port)
			kind, payload = sshchan.Direct, ssh.Marshal(sshchan.TCPChannel{Host: host, Port: uint32(p), OriginHost: "127.0.0.1", OriginPort: 1})
		}
		channel, _, err := c.OpenChannel(kind, payload)
		if got := dialled.Load(); got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s %v to %s: dialled %q, %v; want %q", test.options, test.policy, test.to, got, err, test.want)
		}
		if err == nil {
			channel.Close()
		}
		c.Close()
		s.stop()
	}
}

func TestClosedSockets(t *testing.T) {
	key, dir := newTestKey(t), t.TempDir()
	path := filepath.Join(dir, "own.sock")
	echo(t, "unix", path, "own")
	link := filepath.Join(dir, "link")
	if err := os.Symlink(path, link); err != nil {
		t.Skip(err)
	}
	s := startServer(t, func(o *Options) { o.ClosedSockets = []string{path} }, key.line("", "k"))
	c := s.dial(t, key)
	for _, name := range []string{path, link, dir + "/../" + filepath.Base(dir) + "/own.sock"} {
		if conn, err := c.Dial("unix", name); err == nil {
			conn.Close()
			t.Errorf("%s was opened", name)
		}
	}
}

// TestWhereClientsListen asks for listeners and looks at what is handed on.
func TestWhereClientsListen(t *testing.T) {
	for _, test := range []struct {
		gateway, options, ask, want string
	}{
		{"no", "", "localhost:8080", "tcp/127.0.0.1:8080"},
		{"no", "", ":8080", "tcp/127.0.0.1:8080"},
		{"no", "", "0.0.0.0:8080", "tcp/127.0.0.1:8080"},
		{"no", "", "192.0.2.1:8080", "tcp/127.0.0.1:8080"},
		{"no", "", "[::1]:8080", "tcp/[::1]:8080"},
		{"yes", "", "localhost:8080", "tcp/8080"},
		{"yes", "", "[::1]:8080", "tcp/8080"},
		{"clientspecified", "", ":8080", "tcp/8080"},
		{"clientspecified", "", "*:8080", "tcp/8080"},
		{"clientspecified", "", "localhost:8080", "tcp/127.0.0.1:8080"},
		{"clientspecified", "", "0.0.0.0:8080", "tcp/0.0.0.0:8080"},
		{"clientspecified", "", "[::]:8080", "tcp/[::]:8080"},
		{"clientspecified", "", "192.0.2.1:8080", "tcp/192.0.2.1:8080"},
		{"clientspecified", "", "here:8080", "tcp/192.0.2.7:8080"},
		{"clientspecified", "", "nowhere:8080", ""},
		{"no", "", "/run/x.sock", "unix:/run/x.sock"},
		{"no", "", "x.sock", ""},
		{"no", "restrict", "localhost:8080", ""},
		{"no", "restrict", "/run/x.sock", ""},
		{"no", `permitlisten="8080"`, "localhost:8080", "tcp/127.0.0.1:8080"},
		{"no", `permitlisten="8080"`, "localhost:8081", ""},
		{"no", `permitlisten="8080"`, "localhost:0", ""},
		{"no", `permitlisten="*:*"`, "localhost:8081", "tcp/127.0.0.1:8081"},
		{"no", `permitlisten="localhost:8080"`, "localhost:8080", "tcp/127.0.0.1:8080"},
		{"no", `permitlisten="localhost:8080"`, "127.0.0.1:8080", ""},
		{"no", `permitlisten="[::1]:*"`, "[::1]:8080", "tcp/[::1]:8080"},
		{"clientspecified", `permitlisten="192.0.2.*:8080"`, "192.0.2.1:8080", "tcp/192.0.2.1:8080"},
		{"clientspecified", `permitlisten="192.0.2.*:8080"`, "198.51.100.1:8080", ""},
		{"no", `permitlisten="8080"`, "/run/x.sock", ""},
	} {
		key := newTestKey(t)
		recorder := &recordingForwards{}
		s := startServer(t, func(o *Options) {
			o.GatewayPorts, o.Forwards = test.gateway, recorder
			o.Lookup = func(_ context.Context, host string) ([]netip.Addr, error) {
				if host != "here" {
					return nil, errors.New("no such host")
				}
				return []netip.Addr{netip.MustParseAddr("192.0.2.7")}, nil
			}
		}, key.line(test.options, "k"))
		c := s.dial(t, key)
		kind, payload := sshchan.ForwardUnix, ssh.Marshal(sshchan.UnixRequest{Path: test.ask})
		if host, port, err := net.SplitHostPort(test.ask); err == nil {
			p, _ := net.LookupPort("tcp", port)
			kind, payload = sshchan.Forward, ssh.Marshal(sshchan.TCPRequest{Host: host, Port: uint32(p)})
		}
		ok, _, err := c.SendRequest(kind, true, payload)
		if err != nil || ok != (test.want != "") || recorder.last() != test.want {
			t.Errorf("%s %s %s: %v %v, listens at %q, want %q", test.gateway, test.options, test.ask, ok, err, recorder.last(), test.want)
		}
		c.Close()
		s.stop()
	}
}

// TestRevokedKeyOpensNothing takes the key away from under a client.
func TestRevokedKeyOpensNothing(t *testing.T) {
	key := newTestKey(t)
	var keys atomic.Pointer[Keys]
	keys.Store(keysOf(t, key.line("", "k")))
	s := startServer(t, func(o *Options) { o.Authorize = func() (*Keys, error) { return keys.Load(), nil } })
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	c := s.dial(t, key)
	if _, err := c.Dial("tcp", target); err != nil {
		t.Fatal(err)
	}
	l, err := c.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			answerAs(conn, "client")
		}
	}()
	call(t, "tcp", l.Addr().String(), "client")
	keys.Store(keysOf(t, key.line(`permitlisten="localhost:1"`, "k")))
	if err := tryCall("tcp", l.Addr().String(), "client"); err == nil {
		t.Error("a limit that came later does not hold for a listener")
	}
	keys.Store(keysOf(t, key.line(`permitopen="elsewhere:1"`, "k")))
	if _, err := c.Dial("tcp", target); err == nil {
		t.Error("a limit that came later does not hold")
	}
	keys.Store(keysOf(t))
	if _, err := c.Dial("tcp", target); err == nil || !strings.Contains(err.Error(), "no longer") {
		t.Errorf("a key that was taken away opens a channel: %v", err)
	}
	if err := tryCall("tcp", l.Addr().String(), "client"); err == nil {
		t.Error("a client whose key was taken away is called")
	}
	if _, err := c.Listen("tcp", "localhost:0"); err == nil {
		t.Error("a key that was taken away opens a listener")
	}
	keys.Store(keysOf(t, key.line(`expiry-time="20200101"`, "k")))
	if _, err := c.Dial("tcp", target); err == nil {
		t.Error("a key that has expired opens a channel")
	}
	if _, err := s.tryDial(ssh.PublicKeys(key.Signer)); err == nil {
		t.Error("a key that has expired logs in")
	}
}
