package sshnode

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/node"
)

func fingerprint(t *testing.T, public string) string {
	t.Helper()
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(public))
	if err != nil {
		t.Fatal(err)
	}
	return ssh.FingerprintSHA256(key)
}

func TestHostKeyChanged(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	s.keygen("old", "-t", "ed25519")
	s.knows("old.pub")
	n := runNode(t, s.spec(), Options{})
	err := refusal(t, n)
	var host *HostKeyError
	if !errors.As(err, &host) || !Permanent(err) {
		t.Fatalf("%v, want a HostKeyError", err)
	}
	for _, want := range []string{
		"has changed", fingerprint(t, s.read("host_ed25519.pub")), fingerprint(t, s.read("old.pub")), s.path("known_hosts") + ":1",
		"ssh-keygen -f '" + s.path("known_hosts") + "' -R '[127.0.0.1]:",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q lacks %q", err, want)
		}
	}
	if host.Fingerprint != fingerprint(t, s.read("host_ed25519.pub")) || len(host.Known) != 1 || host.Known[0].Line != 1 {
		t.Errorf("%+v", host)
	}
	if !strings.Contains(n.State().Why, "has changed") {
		t.Errorf("Why is %q", n.State().Why)
	}

	// accept-new is about new hosts, not about new keys of hosts.
	spec := s.spec()
	spec.AcceptNew = true
	if err := refusal(t, runNode(t, spec, Options{})); !errors.As(err, &host) {
		t.Errorf("%v, want a HostKeyError", err)
	}
}

func TestHostKeyUnknown(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	print := fingerprint(t, s.read("host_ed25519.pub"))
	_ = os.Remove(s.path("known_hosts"))
	err := refusal(t, runNode(t, s.spec(), Options{}))
	var host *HostKeyError
	if !errors.As(err, &host) || !strings.Contains(err.Error(), print) || !strings.Contains(err.Error(), "ssh-keyscan -p ") {
		t.Fatalf("%v, want a HostKeyError", err)
	}

	for _, c := range []struct {
		name    string
		r       Resolved
		answers []string
		want    string // in the error; "" is that it is accepted
	}{
		{name: "asked and confirmed", answers: []string{"what?", "yes"}},
		{name: "asked and named", answers: []string{print}},
		{name: "asked and refused", answers: []string{"no"}, want: "was not confirmed"},
		{name: "strict", r: Resolved{StrictHostKeyChecking: "yes"}, want: "is not known"},
		{name: "accept-new", r: Resolved{StrictHostKeyChecking: "accept-new"}},
		{name: "hashed", r: Resolved{StrictHostKeyChecking: "accept-new", HashKnownHosts: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			s.write("known_hosts", "# without a newline at its end")
			o := Options{Resolve: func(context.Context, Query) (Resolved, error) { return c.r, nil }}
			o.Ask = func(_ context.Context, prompt string, echo bool) (string, error) {
				if len(c.answers) == 0 {
					t.Errorf("asked %q", prompt)
					return "no", nil
				}
				answer := c.answers[0]
				c.answers = c.answers[1:]
				return answer, nil
			}
			n := runNode(t, s.spec(), o)
			if c.want != "" {
				if err := refusal(t, n); !strings.Contains(err.Error(), c.want) {
					t.Errorf("%q lacks %q", err, c.want)
				}
				return
			}
			up(t, n)
			written := s.read("known_hosts")
			if strings.Contains(written, "127.0.0.1") == c.r.HashKnownHosts {
				t.Errorf("wrote %q", written)
			}
			// What was written is what OpenSSH finds, and is enough the next time.
			_, port, _ := net.SplitHostPort(s.addr)
			run(t, "ssh-keygen", "-F", "[127.0.0.1]:"+port, "-f", s.path("known_hosts"))
			up(t, runNode(t, s.spec(), Options{}))
		})
	}

	_ = os.Remove(s.path("known_hosts"))
	spec := s.spec()
	spec.AcceptNew = true
	up(t, runNode(t, spec, Options{}))
	info, err := os.Stat(s.path("known_hosts"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info.Mode(), err)
	}
	spec.KnownHosts = []string{"/proc/nowhere/known_hosts"}
	if err := refusal(t, runNode(t, spec, Options{})); !strings.Contains(err.Error(), "cannot be written down") {
		t.Error(err)
	}
}

func TestHostCertificate(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	s.stop()
	s.keygen("ca", "-t", "ed25519")
	s.keygen("host_rsa", "-t", "rsa", "-b", "1024")
	sign := func(principals string) {
		run(t, "ssh-keygen", "-q", "-s", s.path("ca"), "-I", "host", "-h", "-n", principals, s.path("host_rsa.pub"))
	}
	sign("127.0.0.1")
	s.lines = []string{"HostKey " + s.path("host_ed25519"), "HostKey " + s.path("host_rsa"), "HostCertificate " + s.path("host_rsa-cert.pub")}
	s.start()
	ca, key := s.read("ca.pub"), s.read("host_rsa.pub")
	for _, c := range []struct{ name, known, want string }{
		{"authority for all", "@cert-authority * " + ca, ""},
		{"authority for a pattern", "@cert-authority *.example.com,[127.0.0.?]:* " + ca, ""},
		{"authority for another", "@cert-authority !*,192.0.2.1 " + ca, "is not known"},
		{"the key itself", "127.0.0.1 " + key, ""},
		{"authority revoked", "@cert-authority * " + ca + "@revoked * " + ca, "revoked"},
		{"key revoked", "@cert-authority * " + ca + "@revoked * " + key, "revoked"},
		{"garbage around", "what is this\n@what * " + ca + "@cert-authority * " + ca + "|1|x|y ssh-rsa AAAA\n", ""},
	} {
		s.write("known_hosts", c.known)
		n := runNode(t, s.spec(), Options{})
		if c.want == "" {
			up(t, n)
		} else if err := refusal(t, n); !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %q lacks %q", c.name, err, c.want)
		}
	}
	s.stop()
	sign("other.example.com")
	s.start()
	s.write("known_hosts", "@cert-authority * "+ca)
	if err := refusal(t, runNode(t, s.spec(), Options{})); !strings.Contains(err.Error(), "not to be believed") {
		t.Error(err)
	}
	s.write("revoked", "# keys\n"+s.read("ca.pub"))
	n := runNode(t, s.spec(), Options{Resolve: func(context.Context, Query) (Resolved, error) {
		return Resolved{RevokedHostKeys: s.path("revoked")}, nil
	}})
	if err := refusal(t, n); !strings.Contains(err.Error(), "revoked") {
		t.Error(err)
	}
}

// TestKnownKeyIsAskedFor has a server with several keys show the one that is known.
func TestKnownKeyIsAskedFor(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	s.stop()
	s.lines = []string{"HostKey " + s.path("host_ed25519")}
	for _, kind := range []string{"rsa", "ecdsa"} {
		s.keygen("host_"+kind, "-t", kind)
		s.lines = append(s.lines, "HostKey "+s.path("host_"+kind))
	}
	s.start()
	for _, kind := range []string{"ed25519", "rsa", "ecdsa"} {
		s.knows("host_" + kind + ".pub")
		up(t, runNode(t, s.spec(), Options{}))
	}
}

func TestKnownHostsNames(t *testing.T) {
	key := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(newSigner(t).PublicKey())))
	for _, c := range []struct {
		patterns, name string
		want           bool
	}{
		{"host", "host", true},
		{"HOST", "host", true},
		{"a,host,b", "host", true},
		{"host", "[host]:2222", false},
		{"*", "[host]:2222", true},
		{"*.example.com", "a.example.com", true},
		{"*.example.com,!a.example.com", "a.example.com", false},
		{"h?st", "host", true},
		{"[host]:2222", "[host]:2222", true},
		{"", "host", false},
		{"!host", "host", false},
	} {
		l, ok := parseKnownLine(c.patterns + " " + key)
		if got := ok && l.matches(c.name); got != c.want {
			t.Errorf("%q for %q: %v, want %v", c.patterns, c.name, got, c.want)
		}
	}
}

func FuzzKnownHosts(f *testing.F) {
	for _, seed := range []string{
		"", "# comment", "host ssh-ed25519 AAAA", "@cert-authority * ssh-rsa", "|1|c2FsdA==|aGFzaA== ssh-rsa AAAA", "@revoked @revoked x y z",
		"h ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHQ0yq8cQ0rQ1j2kq4y3vQ1WmF0sQh3f5T7m1u8l0a1B",
	} {
		f.Add(seed, "[host]:2222")
	}
	f.Fuzz(func(t *testing.T, text, name string) {
		for _, l := range parseKnownHosts("f", []byte(text)) {
			l.matches(name)
			if l.key == nil || l.known().Fingerprint == "" || l.line == 0 {
				t.Errorf("%+v", l)
			}
		}
		_, _ = parseRevoked([]byte(text))
		_ = wildcard(text, name)
	})
}

func TestWildcardIsNotExponential(t *testing.T) {
	if wildcard(strings.Repeat("*a", 1000)+"b", strings.Repeat("a", 10000)) {
		t.Error("it matches")
	}
}

func TestTargets(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Query
	}{
		{"host", Query{Host: "host"}},
		{"me@host:2222", Query{User: "me", Host: "host", Port: 2222}},
		{"ssh://me@host:2222", Query{User: "me", Host: "host", Port: 2222}},
		{"me@corp@host", Query{User: "me@corp", Host: "host"}},
		{"2001:db8::1", Query{Host: "2001:db8::1"}},
		{"[2001:db8::1]", Query{Host: "2001:db8::1"}},
		{"me@[2001:db8::1]:22", Query{User: "me", Host: "2001:db8::1", Port: 22}},
	} {
		if got, err := ParseTarget(c.in); err != nil || fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%q: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	for _, bad := range []string{"", "@host", "host:", "host:0", "host:65536", "host:ssh", "a:b:c", "-oProxyCommand=x", "-l@host", "a b", "me@host;x", "`x`@host"} {
		if got, err := ParseTarget(bad); err == nil {
			t.Errorf("%q: %+v, want an error", bad, got)
		}
	}
	if _, err := New(node.Spec{Name: "x", SSH: &node.SSH{Target: "a:b:c"}}, Options{}); err == nil {
		t.Error("New takes a bad target")
	}
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{"host", "me@[::1]:22", "ssh://a@b:1", "[", "a@", "::1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if q, err := ParseTarget(s); err == nil && (q.Host == "" || strings.HasPrefix(q.Host, "-") || strings.ContainsAny(q.Host+q.User, "`$;\n")) {
			t.Errorf("%q: %+v", s, q)
		}
	})
}

// SHA-1 proves nothing any more, also where it is the authority that signs.
func TestHostCertificateWithSHA1(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ca, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	_, host, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ssh.NewSignerFromKey(host)
	if err != nil {
		t.Fatal(err)
	}
	for _, algorithm := range []string{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256} {
		signer, err := ssh.NewSignerWithAlgorithms(ca.(ssh.AlgorithmSigner), []string{algorithm})
		if err != nil {
			t.Fatal(err)
		}
		cert := &ssh.Certificate{Key: key.PublicKey(), CertType: ssh.HostCert, ValidPrincipals: []string{"h"}, ValidBefore: ssh.CertTimeInfinity}
		if err := cert.SignCert(rand.Reader, signer); err != nil {
			t.Fatal(err)
		}
		keys := &hostKeys{r: &Resolved{HostName: "h"}, name: "h", lines: []knownLine{{marker: markerCA, patterns: []string{"h"}, key: ca.PublicKey()}}}
		if refusal := keys.check(cert); (refusal == nil) != (algorithm != ssh.KeyAlgoRSA) {
			t.Errorf("%s: %v", algorithm, refusal)
		}
	}
}
