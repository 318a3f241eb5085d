package sshnode

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// A token is an agent with one security key, which it touches by itself (PROTOCOL.u2f of OpenSSH).
type token struct {
	agent.ExtendedAgent
	t       *testing.T
	private ed25519.PrivateKey
	blob    []byte
}

func newToken(t *testing.T) *token {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	blob := ssh.Marshal(struct {
		Type, Public, App string
	}{ssh.KeyAlgoSKED25519, string(public), "ssh:"})
	return &token{ExtendedAgent: agent.NewKeyring().(agent.ExtendedAgent), t: t, private: private, blob: blob}
}

func (k *token) List() ([]*agent.Key, error) {
	return []*agent.Key{{Format: "what-is-this", Blob: []byte("\x00\x00\x00\x01x")}, {Format: ssh.KeyAlgoSKED25519, Blob: k.blob, Comment: "token"}}, nil
}

func (k *token) Sign(key ssh.PublicKey, data []byte) (*ssh.Signature, error) {
	return k.SignWithFlags(key, data, 0)
}

func (k *token) SignWithFlags(_ ssh.PublicKey, data []byte, _ agent.SignatureFlags) (*ssh.Signature, error) {
	app, message := sha256.Sum256([]byte("ssh:")), sha256.Sum256(data)
	present := []byte{1} // somebody touched it
	counter := binary.BigEndian.AppendUint32(nil, 7)
	signed := append(append(append(append([]byte{}, app[:]...), present...), counter...), message[:]...)
	return &ssh.Signature{
		Format: ssh.KeyAlgoSKED25519, Blob: ed25519.Sign(k.private, signed), Rest: append(present, counter...),
	}, nil
}

// The node asks an agent for these two and nothing else.
func (k *token) Add(agent.AddedKey) error { k.t.Error("asked to add a key"); return errors.New("no") }
func (k *token) Remove(ssh.PublicKey) error {
	k.t.Error("asked to remove a key")
	return errors.New("no")
}
func (k *token) RemoveAll() error  { k.t.Error("asked to remove all"); return errors.New("no") }
func (k *token) Lock([]byte) error { k.t.Error("asked to lock"); return errors.New("no") }
func (k *token) Extension(string, []byte) ([]byte, error) {
	k.t.Error("asked for an extension")
	return nil, agent.ErrExtensionUnsupported
}

func TestSecurityKey(t *testing.T) {
	t.Parallel()
	s := startSSHD(t)
	k := newToken(t)
	public, err := ssh.ParsePublicKey(k.blob)
	if err != nil {
		t.Fatal(err)
	}
	s.write("authorized_keys", string(ssh.MarshalAuthorizedKey(public)))
	// What ssh-keygen leaves beside the token: the public half names the key.
	s.write("id_token.pub", string(ssh.MarshalAuthorizedKey(public)))
	dir, err := os.MkdirTemp("", "agent")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", dir+"/s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(k, c); _ = c.Close() }()
		}
	}()
	spec := s.spec()
	spec.Agent = dir + "/s"
	spec.Identities = []string{s.path("id_token")}
	up(t, runNode(t, spec, Options{}))
	if !strings.Contains(s.read("sshd.log"), "ED25519-SK") {
		t.Errorf("no token was used:\n%s", s.read("sshd.log"))
	}
}
