package sshd

import (
	"crypto/rand"
	"crypto/rsa"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// certFor is a certificate for key; change bends it before the authority signs.
func certFor(t *testing.T, authority, key testKey, change func(*ssh.Certificate)) *ssh.Certificate {
	t.Helper()
	c := &ssh.Certificate{
		Key: key.PublicKey(), CertType: ssh.UserCert, KeyId: "alice", ValidPrincipals: []string{"anyone"}, ValidBefore: ssh.CertTimeInfinity,
		Permissions: ssh.Permissions{Extensions: map[string]string{extensionForward: "", "permit-pty": ""}},
	}
	if change != nil {
		change(c)
	}
	if err := c.SignCert(rand.Reader, authority.Signer); err != nil {
		t.Fatal(err)
	}
	return c
}

func authorities(t *testing.T, keys ...testKey) []*keyLine {
	t.Helper()
	var lines []string
	for _, k := range keys {
		lines = append(lines, k.line("", "ca"))
	}
	return parseKeys("cas", []byte(strings.Join(lines, "\n")), true, func(where string, err error) { t.Errorf("%s: %v", where, err) })
}

func TestCertificates(t *testing.T) {
	ca, rogue, key, plain := newTestKey(t), newTestKey(t), newTestKey(t), newTestKey(t)
	now := time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)
	global := newKeys(authorities(t, ca))
	for _, test := range []struct {
		name   string
		keys   *Keys
		by     testKey
		change func(*ssh.Certificate)
		want   string // the name and what else there is to say, or "error: …"
	}{
		{"plain", global, ca, nil, "alice forwarding"},
		{"by another authority", global, rogue, nil, "error: the key is not authorised"},
		{"for a host", global, ca, func(c *ssh.Certificate) { c.CertType = ssh.HostCert }, "error: the certificate is for a host"},
		{"for another user", global, ca, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"bob"} }, `error: the certificate is for ["bob"]`},
		{"for nobody", global, ca, func(c *ssh.Certificate) { c.ValidPrincipals = nil }, "error: the certificate is for []"},
		{"of yesterday", global, ca, func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Unix()) }, "error: ssh: cert has expired"},
		{"of tomorrow", global, ca, func(c *ssh.Certificate) { c.ValidAfter = uint64(now.Unix()) + 1 }, "error: ssh: cert is not yet valid"},
		{"of today", global, ca, func(c *ssh.Certificate) { c.ValidBefore = uint64(now.Unix()) + 60 }, "alice forwarding until 2029-01-01 00:01:00"},
		{"without forwarding", global, ca, func(c *ssh.Certificate) { c.Extensions = nil }, "alice"},
		{"with a command", global, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"force-command": "true"} }, "alice forwarding"},
		{"from here", global, ca, func(c *ssh.Certificate) {
			c.CriticalOptions = map[string]string{"source-address": "198.51.100.1,192.0.2.0/24"}
		}, "alice forwarding"},
		{"from elsewhere", global, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"source-address": "198.51.100.0/24"} },
			"error: the certificate is not for clients from 192.0.2.9"},
		{"with a critical option", global, ca, func(c *ssh.Certificate) { c.CriticalOptions = map[string]string{"verify-required": ""} },
			`error: ssh: unsupported critical option "verify-required"`},
		{"with a mail address for a name", global, ca, func(c *ssh.Certificate) { c.KeyId = "alice@example.com" }, "alice-example.com-"},
		{"with a name that is taken", newKeys(append(authorities(t, ca), keysOf(t, plain.line("", "alice")).lines[string(plain.PublicKey().Marshal())]...)), ca, nil, "alice-"},
		{"by an authority of a line", keysOf(t, ca.line(`cert-authority,permitopen="a:1"`, "")), ca, nil, "alice forwarding open 1"},
		{"with one of the principals", keysOf(t, ca.line(`cert-authority,principals="team,root"`, "")), ca,
			func(c *ssh.Certificate) { c.ValidPrincipals = []string{"x", "team"} }, "alice forwarding"},
		{"with none of the principals", keysOf(t, ca.line(`cert-authority,principals="team"`, "")), ca, nil, "error: the certificate is for"},
		{"by a line that is restricted", keysOf(t, ca.line(`cert-authority,restrict`, "")), ca, nil, "alice"},
		{"by a key that is no authority", keysOf(t, ca.line("", "")), ca, nil, "error: the key is not authorised"},
		{"without touch, which the line does not waive", keysOf(t, ca.line("cert-authority", "")), ca,
			func(c *ssh.Certificate) { c.Extensions["no-touch-required"] = "" }, "error: the certificate waives touch"},
		{"without touch", keysOf(t, ca.line("cert-authority,no-touch-required", "")), ca,
			func(c *ssh.Certificate) { c.Extensions["no-touch-required"] = "" }, "alice forwarding untouched"},
		{"with touch", keysOf(t, ca.line("cert-authority,no-touch-required", "")), ca, nil, "alice forwarding"},
	} {
		r, err := test.keys.Login(certFor(t, test.by, key, test.change), "anyone", netip.MustParseAddr("192.0.2.9"), now)
		var got string
		switch {
		case err != nil:
			_, text, found := strings.Cut(err.Error(), ": ")
			if !found || err == errNoKey {
				text = err.Error()
			}
			got = "error: " + text
		default:
			got = r.name + " " + describe(&keyLine{keyOptions: keyOptions{forwarding: r.forwarding, noTouch: r.noTouch, expires: r.expires.UTC()}})
			if r.open != nil {
				got += " open 1"
			}
			got = strings.TrimSuffix(strings.TrimSuffix(got, " until 0001-01-01 00:00:00"), " ")
		}
		if got != test.want && !(strings.HasPrefix(got, test.want) && (strings.HasPrefix(test.want, "error") || strings.HasSuffix(test.want, "-"))) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	if _, err := global.Login(ca.PublicKey(), "anyone", netip.Addr{}, now); err == nil {
		t.Error("the authority itself logs in")
	}
}

// SHA-1 proves nothing any more, also where it is the authority that signs (CASignatureAlgorithms in sshd_config(5)).
func TestCertificateWithSHA1(t *testing.T) {
	private, err := rsa.GenerateKey(rand.Reader, leastRSABits)
	if err != nil {
		t.Fatal(err)
	}
	ca, key := writeTestKey(t, private), newTestKey(t)
	for _, algorithm := range []string{ssh.KeyAlgoRSA, ssh.KeyAlgoRSASHA256} {
		signer, err := ssh.NewSignerWithAlgorithms(ca.Signer.(ssh.AlgorithmSigner), []string{algorithm})
		if err != nil {
			t.Fatal(err)
		}
		cert := certFor(t, testKey{Signer: signer}, key, nil)
		_, err = newKeys(authorities(t, ca)).Login(cert, "anyone", netip.Addr{}, time.Now())
		if (err == nil) != (algorithm != ssh.KeyAlgoRSA) {
			t.Errorf("%s: %v", cert.Signature.Format, err)
		}
	}
}

func TestCertificateLogsIn(t *testing.T) {
	program(t, "ssh")
	ca, key := newTestKey(t), newTestKey(t)
	keys := newKeys(authorities(t, ca))
	s := startServer(t, func(o *Options) { o.Authorize = func() (*Keys, error) { return keys, nil } })
	cert := certFor(t, ca, key, func(c *ssh.Certificate) { c.ValidPrincipals = []string{"me"} })
	if err := os.WriteFile(key.file+"-cert.pub", ssh.MarshalAuthorizedKey(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	target := echo(t, "tcp", "127.0.0.1:0", "target").Addr().String()
	out, err := sshW(s, key, target)
	if err != nil || out != "target: hello\ntarget: end\n" {
		t.Errorf("%q, %v", out, err)
	}
	if !strings.Contains(s.log.String(), "key=alice ") {
		t.Errorf("the client is not named after its certificate: %s", s.log)
	}
}

func FuzzSourceAddress(f *testing.F) {
	f.Add("192.0.2.0/24,::1", "192.0.2.1")
	f.Fuzz(func(t *testing.T, list, addr string) {
		a, err := netip.ParseAddr(addr)
		if err == nil && inSources(list, a) && !strings.ContainsAny(list, ".:") {
			t.Errorf("%q has %q", list, addr)
		}
	})
}
