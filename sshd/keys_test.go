package sshd

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// A line of the manual page's example, and keys of all kinds.
const (
	edKey = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl"
	skKey = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJlAAAABHNzaDo="
)

func TestKeyLines(t *testing.T) {
	for _, test := range []struct{ line, want string }{
		{edKey + " alice@laptop", "forwarding"},
		{edKey, "forwarding"},
		{"\t" + strings.ReplaceAll(edKey, " ", "\t") + "\tcomment of words", "forwarding"},
		{`from="10.0.0.0/8,!10.1.0.0/16,*.example.com" ` + edKey, "forwarding from 3"},
		{`FROM="192.0.2.?" ` + edKey, "forwarding from 1"},
		{`from="2001:db8::/32" ` + edKey, "forwarding from 1"},
		{`restrict ` + edKey, ""},
		{`restrict,command="uptime" ` + edKey, ""},
		{`restrict,port-forwarding,pty,command="nethack" ` + edKey, "forwarding"},
		{`port-forwarding,restrict ` + edKey, ""},
		{`no-port-forwarding,no-pty ` + edKey, ""},
		{`command="dump /home",no-pty,no-port-forwarding ` + edKey, ""},
		{`command="sh -c \"echo a, b\"",no-pty ` + edKey, "forwarding"},
		{`environment="A=b, c",environment="D=e",tunnel="0" ` + edKey, "forwarding"},
		{`permitopen="192.0.2.1:80",permitopen="192.0.2.2:25" ` + edKey, "forwarding open [{192.0.2.1 80} {192.0.2.2 25}]"},
		{`permitopen="[2001:db8::1]:80",permitopen="Example.com:*",permitopen="*:443" ` + edKey, "forwarding open [{2001:db8::1 80} {example.com 0} {* 443}]"},
		{`permitlisten="localhost:8080",permitlisten="[::1]:22000",permitlisten="8081",permitlisten="*:*" ` + edKey,
			"forwarding listen [{localhost 8080} {::1 22000} {* 8081} {* 0}]"},
		{`expiry-time="20300102" ` + edKey, "forwarding until 2030-01-02 00:00:00"},
		{`expiry-time="203001021530Z" ` + edKey, "forwarding until 2030-01-02 15:30:00"},
		{`expiry-time="20300102153045Z" ` + edKey, "forwarding until 2030-01-02 15:30:45"},
		{`cert-authority,principals="alice,bob" ` + edKey, "authority forwarding for [alice bob]"},
		{`no-touch-required ` + skKey, "forwarding untouched"},
		{skKey + " yubikey", "forwarding"},
		{`verify-required ` + edKey, "forwarding"}, // means something for security keys alone
		{`no-agent-forwarding,no-X11-forwarding,agent-forwarding,x11-forwarding,user-rc,no-user-rc ` + edKey, "forwarding"},

		{`verify-required ` + skKey, "error: verify-required cannot be checked"},
		{`permitopne="a:1" ` + edKey, `error: "permitopne" is no option`},
		{`permit-everything ` + edKey, `error: "permit-everything" is no option`},
		{`permitopen="a" ` + edKey, "error: permitopen: \"a\" has no port"},
		{`permitopen="a:0" ` + edKey, "error: permitopen: \"0\" is no port"},
		{`permitopen="::1:80" ` + edKey, "error: permitopen: \"::1:80\" is not host:port"},
		{`permitopen="[::1]" ` + edKey, "error: permitopen: \"[::1]\" is not [address]:port"},
		{`permitopen=a:1 ` + edKey, "error: the value of permitopen stands in quotes"},
		{`permitopen ` + edKey, "error: the option permitopen has a value"},
		{`restrict="yes" ` + edKey, "error: the option restrict has no value"},
		{`from="10.0.0.1/8" ` + edKey, "error: from: the network has bits set"},
		{`from="10.0.0.0/33" ` + edKey, "error: from: netip.ParsePrefix"},
		{`from="" ` + edKey, "error: from: a pattern is empty"},
		{`from="a,,b" ` + edKey, "error: from: a pattern is empty"},
		{`from="a",from="b" ` + edKey, "error: the option from is there twice"},
		{`expiry-time="2030" ` + edKey, "error: expiry-time: \"2030\" is no time"},
		{`expiry-time="20301302" ` + edKey, "error: expiry-time: \"20301302\" is no time"},
		{`principals="a" ` + edKey, "error: principals= needs cert-authority"},
		{`cert-authority,principals="a,,b" ` + edKey, "error: principals: a name is empty"},
		{`restrict, ` + edKey, "error: an option is empty"},
		{`,restrict ` + edKey, "error: an option is empty"},
		{`command="open ` + edKey, "error: the value of command has no closing quote"},
		{`command="a"b ` + edKey, "error: after command comes a comma or the key"},
		{"ssh-dss AAAAB3NzaC1kc3MAAA", "error: "},
		{"ssh-ed25519", "error: this is no key"},
		{"ssh-ed25519 !!!", "error: the key is not base64"},
		{"ssh-ed25519 " + strings.Fields(skKey)[1], "error: the line says ssh-ed25519, the key is sk-"},
		{"restrict", "error: "},
		{strings.Repeat("x", maxKeyLine+1), "error: the line is longer"},
	} {
		l, err := parseKeyLine(strings.TrimSpace(test.line))
		got := ""
		if err != nil {
			got = "error: " + err.Error()
		} else {
			got = describe(l)
		}
		if prefix, isError := strings.CutPrefix(test.want, "error"); isError && !strings.HasPrefix(got, "error"+prefix) || !isError && got != test.want {
			t.Errorf("%s\n got %s\nwant %s", test.line, got, test.want)
		}
	}
}

func describe(l *keyLine) string {
	var words []string
	say := func(is bool, format string, args ...any) {
		if is {
			words = append(words, fmt.Sprintf(format, args...))
		}
	}
	say(l.authority, "authority")
	say(l.forwarding, "forwarding")
	say(l.noTouch, "untouched")
	say(l.sources != nil, "from %d", len(l.sources))
	say(!l.expires.IsZero(), "until %s", l.expires.Format(time.DateTime))
	say(l.open != nil, "open %v", l.open)
	say(l.listen != nil, "listen %v", l.listen)
	say(l.principals != nil, "for %v", l.principals)
	return strings.Join(words, " ")
}

func TestSources(t *testing.T) {
	for _, test := range []struct {
		list, addr string
		want       bool
	}{
		{"10.0.0.0/8", "10.1.2.3", true},
		{"10.0.0.0/8", "::ffff:10.1.2.3", true},
		{"10.0.0.0/8,!10.1.0.0/16", "10.1.2.3", false},
		{"!10.1.0.0/16,10.0.0.0/8", "10.1.2.3", false},
		{"!10.1.0.0/16,10.0.0.0/8", "10.2.2.3", true},
		{"!10.1.0.0/16", "10.2.2.3", false}, // nothing says yes
		{"192.0.2.?", "192.0.2.7", true},
		{"192.0.2.?", "192.0.2.77", false},
		{"192.0.*", "192.0.2.77", true},
		{"*", "2001:db8::1", true},
		{"*,!2001:DB8::1", "2001:db8::1", false},
		{"2001:db8:0::1", "2001:db8::1", true},
		{"host.example.com", "192.0.2.1", false},
	} {
		patterns, err := parseSources(test.list)
		if err != nil {
			t.Fatal(err)
		}
		if got := matchSources(patterns, netip.MustParseAddr(test.addr)); got != test.want {
			t.Errorf("%s for %s: %v", test.list, test.addr, got)
		}
	}
	if patterns, _ := parseSources("*"); matchSources(patterns, netip.Addr{}) {
		t.Error("a client without an address is matched")
	}
}

func TestLoginRights(t *testing.T) {
	key, other := newTestKey(t), newTestKey(t)
	keys := keysOf(t,
		key.line(`from="192.0.2.0/24",permitopen="a:1"`, "alice"),
		key.line(`expiry-time="20300101Z"`, "alice at home"),
		other.line("restrict", "alice"), // another key of the same name
	)
	now := time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC)
	r, err := keys.Login(key.PublicKey(), "x", netip.MustParseAddr("192.0.2.9"), now)
	if err != nil || r.name != "alice" || len(r.open) != 1 {
		t.Errorf("the first line: %+v, %v", r, err)
	}
	r, err = keys.Login(key.PublicKey(), "x", netip.MustParseAddr("198.51.100.1"), now)
	if err != nil || r.name != "alice-at-home" || r.open != nil {
		t.Errorf("the second line: %+v, %v", r, err)
	}
	_, err = keys.Login(key.PublicKey(), "x", netip.MustParseAddr("198.51.100.1"), now.AddDate(2, 0, 0))
	if !errors.Is(err, errExpired) {
		t.Errorf("after the time: %v", err)
	}
	r, err = keys.Login(other.PublicKey(), "x", netip.Addr{}, now)
	if err != nil || r.forwarding || !strings.HasPrefix(r.name, "alice-") {
		t.Errorf("the other key: %+v, %v", r, err)
	}
	if _, err = keys.Login(newTestKey(t).PublicKey(), "x", netip.Addr{}, now); !errors.Is(err, errNoKey) {
		t.Errorf("a foreign key: %v", err)
	}
}

func TestWeakKeys(t *testing.T) {
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(weak)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseKeyLine(strings.TrimSpace(string(ssh.MarshalAuthorizedKey(signer.PublicKey())))); err == nil || !strings.Contains(err.Error(), "too weak") {
		t.Errorf("RSA with 1024 bits: %v", err)
	}
	if _, err := strong(signer); err == nil || !strings.Contains(err.Error(), "too weak") {
		t.Errorf("as a host key: %v", err)
	}
}

// TestKindsOfKeys logs in with each kind that can be made here.
func TestKindsOfKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		loginWith(t, writeTestKey(t, k))
	}
	loginWith(t, writeTestKey(t, rsaKey))
}

func loginWith(t *testing.T, key testKey) {
	t.Helper()
	s := startServer(t, nil, key.line("", ""))
	s.dial(t, key)
	eventually(t, "a login named after the fingerprint", func() bool {
		return strings.Contains(s.log.String(), "key="+shortPrint(key.PublicKey()))
	})
}

func TestKeyFilesAreReadAgain(t *testing.T) {
	dir := t.TempDir()
	name := filepath.Join(dir, "authorized_keys")
	a, b := newTestKey(t), newTestKey(t)
	write := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(name+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name+".new", mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(name+".new", name); err != nil {
			t.Fatal(err)
		}
	}
	f := NewKeyFiles(nil, []string{name}, nil)
	want := func(when string, n int) *Keys {
		t.Helper()
		keys, err := f.Keys()
		if err != nil || keys.Len() != n {
			t.Errorf("%s: %d keys (%v), want %d", when, keys.Len(), err, n)
		}
		return keys
	}
	want("before there is a file", 0)
	write("# a comment\n\n"+a.line("", "a")+"\r\nnonsense\n"+b.line("bad-option", "")+"\n", 0o644)
	keys := want("with one good line", 1)
	if again := want("unchanged", 1); again != keys {
		t.Error("an unchanged file was read again")
	}
	write(a.line("", "a")+"\n"+b.line("", "b"), 0o600)
	want("with two", 2)
	write(a.line("", "a")+"\n"+b.line("", "b"), 0o622)
	want("when others may write", 0)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	want("after the file is gone", 0)
}

func FuzzKeyLine(f *testing.F) {
	for _, line := range []string{
		edKey, skKey + " c", `from="a,!b*",restrict ` + edKey, `permitopen="[::1]:*",permitlisten="80",expiry-time="20300101Z" ` + edKey,
		`command="\"" ` + edKey, `cert-authority,principals="a" ` + edKey, `=",=`, `a="b`,
	} {
		f.Add(line)
	}
	f.Fuzz(func(t *testing.T, line string) {
		l, err := parseKeyLine(line)
		if err != nil {
			return
		}
		if l.key == nil {
			t.Fatal("a line without a key was taken")
		}
		// What limits a key must not get lost on the way.
		options := strings.ToLower(line[:len(line)-len(skipOptions(line))])
		if strings.Contains(options, `permitopen="`) && !strings.Contains(options, `\"`) && strings.Count(options, `"`) == 2 && l.open == nil {
			t.Errorf("%q has no limit", line)
		}
		_ = matchSources(l.sources, netip.MustParseAddr("192.0.2.1"))
	})
}
