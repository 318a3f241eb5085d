package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/sshnode"
	"github.com/fairlead-net/fairlead/node/sshnode/sshconfig"
)

// asked is a node that remembers what it was asked to listen at.
type asked struct {
	node.Node
	at []string
}

func (a *asked) Listen(_ context.Context, network, addr string) (net.Listener, error) {
	a.at = append(a.at, network+" "+addr)
	return nil, io.EOF
}

// TestSSHPlan says what forwards the forwardings of ssh(1) become.
func TestSSHPlan(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"-L 8080:h:80", "L1 tcp/127.0.0.1:8080 > h:80; L1.2 tcp/[::1]:8080 > h:80"},
		{"-4 -L 8080:h:80", "L1 tcp/127.0.0.1:8080 > h:80"},
		{"-6 -L localhost:8080:[::1]:80", "L1 tcp/[::1]:8080 > [::1]:80"},
		{"-L localhost:8080:127.0.0.1:80", "L1 tcp/127.0.0.1:8080 > 127.0.0.1:80; L1.2 tcp/[::1]:8080 > 127.0.0.1:80"},
		{"-L *:8080:h:80 -L :81:h:82", "L1 tcp/8080 > h:80; L2 tcp/81 > h:82"},
		{"-4 -L *:8080:h:80", "L1 tcp/0.0.0.0:8080 > h:80"},
		{"-g -L 8080:h:80 -D 1080", "L1 tcp/8080 > h:80; D1 tcp/1080 > socks"},
		{"-D 127.0.0.2:1080", "D1 tcp/127.0.0.2:1080 > socks"},
		{"-g -L 127.0.0.2:8080:h:80", "L1 tcp/127.0.0.2:8080 > h:80"},
		{"-L /l:/r", "L1 unix:/l > unix:/r"},
		{"-D 1080", "D1 tcp/127.0.0.1:1080 > socks; D1.2 tcp/[::1]:1080 > socks"},
		{"-R 9000:h:80", "R1 tcp localhost:9000 > h:80"},
		{"-R 0:h:80", "R1 tcp localhost:0 > h:80"},
		{"-R :9000:h:80 -R *:1:h:2", "R1 tcp :9000 > h:80; R2 tcp *:1 > h:2"},
		{"-R localhost:9000:/l", "R1 tcp localhost:9000 > unix:/l"},
		{"-R [::1]:9000:h:80", "R1 tcp [::1]:9000 > h:80"},
		{"-R some.name:9000:h:80", "R1 tcp some.name:9000 > h:80"},
		{"-R /r:h:80", "R1 unix /r > h:80"},
		{"-R 1080", "R1 tcp localhost:1080 > socks"},
		{"-R /r", "R1 unix /r > socks"},
		{"-W h:1 -L 8080:h:80", ""},
		{"-o ClearAllForwardings=yes -L 8080:h:80", ""},
	} {
		a, err := parseSSHArgs(append(strings.Fields(c.args), "host"), sshconfig.Service)
		if err != nil {
			t.Fatal(err)
		}
		h, _, err := sshconfig.Lookup(a.host, sshconfig.LookupOptions{Config: "none", Overrides: a.overrides})
		if err != nil {
			t.Fatal(err)
		}
		addForwards(h, a)
		server := new(asked)
		p, err := planSSH(t.Context(), h, server, io.Discard)
		if err != nil {
			t.Errorf("%s: %v", c.args, err)
			continue
		}
		var got []string
		for _, g := range p.groups {
			for _, f := range g.forwards {
				at := f.Listen.String()
				if g.remote != nil {
					server.at = nil
					_, _ = p.nodes[f.At].Listen(t.Context(), "tcp", f.Listen.Path)
					at = server.at[0]
				} else if f.Via != sshNodeName {
					t.Errorf("%s: %s dials from %q", c.args, f.Name, f.Via)
				}
				if f.Dynamic() != forward.HeadNone && !f.Anyone {
					t.Errorf("%s: %s wants a login, which ssh(1) does not", c.args, f.Name)
				}
				got = append(got, fmt.Sprintf("%s %s > %s", f.Name, at, f.To[0]))
			}
		}
		if text := strings.Join(got, "; "); text != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.args, text, c.want)
		}
	}
}

// TestSSHResolved says what a node learns of ssh_config(5).
func TestSSHResolved(t *testing.T) {
	resolve := resolveSSH(slog.New(slog.DiscardHandler), slog.LevelDebug)
	r, err := resolve(t.Context(), sshnode.Query{Host: "web", Port: 7, Config: "none", Options: []string{
		"Hostname=%h.example.com", "Port=8", "IdentityFile=/k%%1", "UserKnownHostsFile=none", "BatchMode=yes", "Ciphers=^aes256-ctr",
		"ProxyJump=a,b", "PasswordAuthentication=no", "MACs=-*sha1*",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if r.HostName != "web.example.com" || r.Port != 7 || !slices.Equal(r.IdentityFiles, []string{"/k%%1"}) ||
		!slices.Equal(r.UserKnownHostsFiles, []string{"none"}) || r.GlobalKnownHostsFiles != nil || r.StrictHostKeyChecking != "yes" ||
		!slices.Equal(r.ProxyJump, []string{"a", "b"}) || !slices.Equal(r.Authentications, []string{"publickey"}) || r.Ciphers[0] != "aes256-ctr" ||
		slices.Contains(r.MACs, "hmac-sha1") {
		t.Errorf("%+v", r)
	}
	for _, option := range []string{"Ciphers=none-of-these", "BindInterface=no-such-interface", "Frobnicate=1"} {
		if _, err := resolve(t.Context(), sshnode.Query{Host: "web", Config: "none", Options: []string{option}}); err == nil {
			t.Errorf("%s was taken", option)
		}
	}
}
