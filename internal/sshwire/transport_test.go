package sshwire

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// TestMPInt has the examples of RFC 4251, section 5.
func TestMPInt(t *testing.T) {
	for number, want := range map[string]string{
		"":                                 "\x00\x00\x00\x00",
		"\x00\x00":                         "\x00\x00\x00\x00",
		"\x09\xa3\x78\xf9\xb2\xe3\x32\xa7": "\x00\x00\x00\x08\x09\xa3\x78\xf9\xb2\xe3\x32\xa7",
		"\x80":                             "\x00\x00\x00\x02\x00\x80",
	} {
		if got := appendMPInt(nil, []byte(number)); string(got) != want {
			t.Errorf("%x: %x", number, got)
		}
	}
}

func TestSignatureFormat(t *testing.T) {
	for algorithm, want := range map[string]string{
		ssh.KeyAlgoED25519:        ssh.KeyAlgoED25519,
		ssh.CertAlgoED25519v01:    ssh.KeyAlgoED25519,
		ssh.KeyAlgoRSASHA256:      ssh.KeyAlgoRSASHA256,
		ssh.CertAlgoRSASHA512v01:  ssh.KeyAlgoRSASHA512,
		ssh.CertAlgoECDSA384v01:   ssh.KeyAlgoECDSA384,
		ssh.KeyAlgoSKED25519:      ssh.KeyAlgoSKED25519,
		ssh.CertAlgoSKED25519v01:  ssh.KeyAlgoSKED25519,
		ssh.CertAlgoSKECDSA256v01: ssh.KeyAlgoSKECDSA256,
	} {
		if got := signatureFormat(algorithm); got != want {
			t.Errorf("%s: %s", algorithm, got)
		}
	}
}

// ends are two transports that speak to each other in memory.
func ends(t *testing.T) (client, server *transport) {
	t.Helper()
	host := newTestKey(t)
	versions := [2][]byte{[]byte("SSH-2.0-c"), []byte("SSH-2.0-s")}
	make := func(client bool) *transport {
		return &transport{
			client: client, wanted: Algorithms{}.complete(), noise: newNoise(), versions: versions, hostKeys: []string{ssh.KeyAlgoED25519},
			signers: []ssh.Signer{host}, checkKey: func(ssh.PublicKey) error { return nil }, offered: defaultPublicKeys(),
		}
	}
	return make(true), make(false)
}

// pass gives to what from has to say, and returns what is none of the transport's.
func pass(from, to *transport) (other [][]byte, err error) {
	b := from.outgoing
	from.outgoing = nil
	for len(b) > 0 {
		p, size, err := to.in.open(b)
		if err != nil || size == 0 {
			return other, errors.Join(err, errors.New("no whole packet"))
		}
		b = b[size:]
		handled, err := to.receive(p)
		if err != nil {
			return other, err
		}
		if !handled {
			other = append(other, p)
		}
	}
	return other, nil
}

func exchangeKeys(t *testing.T, a, b *transport) {
	t.Helper()
	for len(a.outgoing)+len(b.outgoing) > 0 {
		if _, err := pass(a, b); err != nil {
			t.Fatal(err)
		}
		if _, err := pass(b, a); err != nil {
			t.Fatal(err)
		}
	}
	if a.exchange != nil || b.exchange != nil || a.session == nil || !bytes.Equal(a.session, b.session) {
		t.Fatal("there is no common session")
	}
}

func TestExchanges(t *testing.T) {
	for _, kex := range []string{KexMLKEM768X25519, KexCurve25519} {
		client, server := ends(t)
		client.wanted.KeyExchanges = []string{kex}
		client.startKex()
		server.startKex()
		exchangeKeys(t, client, server)
		if !client.strict || !server.strict || !client.theirs.ping || len(client.theirs.signatures) == 0 {
			t.Error("not all was said")
		}
		session := bytes.Clone(client.session)
		for i, starter := range []*transport{client, server, client} {
			starter.startKex()
			if i == 2 {
				server.startKex() // both at once
			}
			server.send([]byte{msgGlobalRequest, 'x'})
			server.send([]byte{msgGlobalRequest, 'y'})
			var other [][]byte
			for len(client.outgoing)+len(server.outgoing) > 0 {
				if _, err := pass(client, server); err != nil {
					t.Fatal(err)
				}
				got, err := pass(server, client)
				if err != nil {
					t.Fatal(err)
				}
				other = append(other, got...)
			}
			if len(other) != 2 || other[0][1] != 'x' || other[1][1] != 'y' {
				t.Errorf("what was held back: %q", other)
			}
			if !bytes.Equal(client.session, session) || client.exchange != nil || server.exchange != nil {
				t.Error("the session has changed, or the exchange did not end")
			}
			if client.out.seq > 8 {
				t.Error("the packets are not counted anew")
			}
		}
	}
}

// TestWrongGuess has a client send the first message of another key exchange right after its KEXINIT.
func TestWrongGuess(t *testing.T) {
	client, server := ends(t)
	server.wanted.KeyExchanges = []string{KexCurve25519}
	k := client.proposal()
	k.guessed = true
	mine := k.marshal()
	client.exchange = &exchange{mine: mine}
	client.send(mine)
	client.send(append([]byte{msgKexFirst}, make([]byte, 1220)...))
	server.startKex()
	exchangeKeys(t, client, server)
}

// TestStrict refuses what an attacker may put in between (CVE-2023-48795), and what comes too early.
func TestStrict(t *testing.T) {
	for name, inject := range map[string]func(client, server *transport){
		"before KEXINIT": func(client, _ *transport) {
			client.send([]byte{msgIgnore, 0, 0, 0, 0})
			client.startKex()
		},
		"after KEXINIT": func(client, server *transport) {
			client.startKex()
			client.send([]byte{msgIgnore, 0, 0, 0, 0})
		},
		"login without keys": func(client, server *transport) {
			client.startKex()
			client.exchange = nil // or it would be held back
			client.send([]byte{msgServiceRequest})
		},
		"NEWKEYS out of turn": func(client, server *transport) {
			client.startKex()
			client.send([]byte{msgNewKeys})
		},
		"two KEXINITs": func(client, server *transport) {
			client.startKex()
			client.exchange = nil
			client.startKex()
		},
	} {
		client, server := ends(t)
		server.startKex()
		inject(client, server)
		var rules *protocolError
		if _, err := pass(client, server); !errors.As(err, &rules) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOtherHostKeyLater(t *testing.T) {
	client, server := ends(t)
	client.startKex()
	server.startKex()
	exchangeKeys(t, client, server)
	server.signers = []ssh.Signer{newTestKey(t)}
	server.startKex()
	var err error
	for err == nil && len(client.outgoing)+len(server.outgoing) > 0 {
		if _, err = pass(server, client); err == nil {
			_, err = pass(client, server)
		}
	}
	if err == nil || !strings.Contains(err.Error(), "another host key") {
		t.Error(err)
	}
}

// TestTouch has signatures of security keys with and without the touch.
func TestTouch(t *testing.T) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	curve, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := curve.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	signed := []byte("what is signed")
	for kind, k := range map[string]struct {
		blob []byte
		sign func(b []byte) []byte
	}{
		ssh.KeyAlgoSKED25519: {
			appendString(appendString(appendString(nil, ssh.KeyAlgoSKED25519), []byte(public)), "ssh:"),
			func(b []byte) []byte { return ed25519.Sign(private, b) },
		},
		ssh.KeyAlgoSKECDSA256: {
			appendString(appendString(appendString(appendString(nil, ssh.KeyAlgoSKECDSA256), "nistp256"), point), "ssh:"),
			func(b []byte) []byte {
				hash := sha256.Sum256(b)
				r, s, err := ecdsa.Sign(rand.Reader, curve, hash[:])
				if err != nil {
					t.Fatal(err)
				}
				return appendMPInt(appendMPInt(nil, r.Bytes()), s.Bytes())
			},
		},
	} {
		key, err := ssh.ParsePublicKey(k.blob)
		if err != nil {
			t.Fatal(err)
		}
		for _, touched := range []bool{true, false} {
			rest := []byte{0, 0, 0, 0, 9}
			if touched {
				rest[0] = 1
			}
			app, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(signed)
			s := &ssh.Signature{Format: kind, Rest: rest}
			s.Blob = k.sign(append(append(app[:], rest...), message[:]...))
			spared := &ssh.Permissions{Extensions: map[string]string{noTouch: ""}}
			if err := verifyLogin(key, nil, signed, s); (err == nil) != touched {
				t.Errorf("%s, touched %v: %v", kind, touched, err)
			}
			if err := verifyLogin(key, spared, signed, s); err != nil {
				t.Errorf("%s, touched %v, but need not be: %v", kind, touched, err)
			}
			if err := verifyLogin(key, spared, []byte("other"), s); err == nil {
				t.Errorf("%s: a signature of something else is taken", kind)
			}
		}
	}
}

func TestCheckSource(t *testing.T) {
	from := &net.TCPAddr{IP: net.ParseIP("192.0.2.7")}
	for list, want := range map[string]bool{
		"": false, "192.0.2.7": true, "192.0.2.8": false, "10.0.0.0/8, 192.0.2.0/24": true, "::/0": false, "*": false,
	} {
		p := &ssh.Permissions{CriticalOptions: map[string]string{sourceAddress: list}}
		if err := checkSource(p, from); (err == nil) != want {
			t.Errorf("%q: %v", list, err)
		}
		if checkSource(p, &net.UnixAddr{}) == nil {
			t.Errorf("%q lets a unix socket in", list)
		}
	}
	if checkSource(nil, from) != nil || checkSource(&ssh.Permissions{}, from) != nil {
		t.Error("nothing is asked for, and something is missing")
	}
}

func TestDeriveKey(t *testing.T) {
	short := deriveKey([]byte("k"), []byte("h"), []byte("s"), 'A', 12)
	long := deriveKey([]byte("k"), []byte("h"), []byte("s"), 'A', 80)
	second := sha256.Sum256(append([]byte("kh"), long[:32]...))
	if !bytes.HasPrefix(long, short) || !bytes.Equal(long[32:64], second[:]) {
		t.Error("a long key is not made as RFC 4253, section 7.2 says")
	}
}
