package sshd

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/crypto/ssh"
)

// A securityKey signs as a FIDO authenticator does (PROTOCOL.u2f of OpenSSH).
type securityKey struct {
	private ed25519.PrivateKey
	public  ssh.PublicKey
	flags   byte // 1: it was touched
}

const securityApplication = "ssh:"

func newSecurityKey(t *testing.T, flags byte) *securityKey {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	wire := ssh.Marshal(struct {
		Type   string
		Public []byte
		App    string
	}{ssh.KeyAlgoSKED25519, public, securityApplication})
	key, err := ssh.ParsePublicKey(wire)
	if err != nil {
		t.Fatal(err)
	}
	return &securityKey{private, key, flags}
}

func (k *securityKey) PublicKey() ssh.PublicKey { return k.public }

func (k *securityKey) Sign(_ io.Reader, data []byte) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte(securityApplication)), sha256.Sum256(data)
	rest := binary.BigEndian.AppendUint32([]byte{k.flags}, 7)
	text := append(append(app[:], rest...), message[:]...)
	return &ssh.Signature{Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.private, text), Rest: rest}, nil
}

func (k *securityKey) line(options string) string {
	return options + " " + k.public.Type() + " " + base64.StdEncoding.EncodeToString(k.public.Marshal())
}

func TestSecurityKeys(t *testing.T) {
	for _, test := range []struct {
		options string
		flags   byte
		want    bool
	}{
		{"", 1, true},
		{"", 5, true}, // touched, and the PIN was asked for
		{"", 0, false},
		{"no-touch-required", 0, true},
		{"no-touch-required", 1, true},
	} {
		key := newSecurityKey(t, test.flags)
		s := startServer(t, nil, key.line(test.options))
		c, err := s.tryDial(ssh.PublicKeys(key))
		if (err == nil) != test.want {
			t.Errorf("%q with the flags %d: %v", test.options, test.flags, err)
		}
		if err == nil {
			c.Close()
		}
		s.stop()
	}
}
