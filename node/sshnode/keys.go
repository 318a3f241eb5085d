package sshnode

import (
	"bytes"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"

	"golang.org/x/crypto/ssh"
)

// maxKeyFile bounds a file with a key.
const maxKeyFile = 1 << 20

// Secrets keeps private keys that a passphrase has opened, by the bytes of their files. The zero Secrets is empty.
type Secrets struct {
	mu   sync.Mutex
	keys map[[sha256.Size]byte]ssh.Signer
}

func (s *Secrets) get(file []byte) ssh.Signer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys[sha256.Sum256(file)]
}

func (s *Secrets) put(file []byte, key ssh.Signer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = map[[sha256.Size]byte]ssh.Signer{}
	}
	s.keys[sha256.Sum256(file)] = key
}

// An identity is a key pair in a file, of which so far only the public half is known.
type identity struct {
	from   string // the file that says so
	path   string // of the private key; "" if it is not in a file
	public ssh.PublicKey
}

func (id *identity) name() string {
	return filepath.Base(id.from) + " (" + ssh.FingerprintSHA256(id.public) + ")"
}

// readIdentity finds the public key of a private one: beside it, or in it. A path to a public key alone is for the agent.
func readIdentity(path string) (*identity, error) {
	text, err := readPrivate(path)
	if errors.Is(err, os.ErrNotExist) {
		if public, err := readPublic(path + ".pub"); err == nil {
			return &identity{from: path, public: public}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	if public, _, _, _, err := ssh.ParseAuthorizedKey(text); err == nil {
		return &identity{from: path, public: public}, nil
	}
	signer, err := ssh.ParsePrivateKey(text)
	var missing *ssh.PassphraseMissingError
	switch {
	case err == nil:
		return &identity{from: path, path: path, public: signer.PublicKey()}, nil
	case errors.As(err, &missing):
		public := missing.PublicKey // in the OpenSSH format only
		if public == nil {
			if public, err = readPublic(path + ".pub"); err != nil {
				return nil, fmt.Errorf("%s is encrypted, and its public key cannot be had: %w; write it with ssh-keygen -y", path, err)
			}
		}
		return &identity{from: path, path: path, public: public}, nil
	case bytes.Contains(text, []byte("PRIVATE KEY")):
		if public, pubErr := readPublic(path + ".pub"); pubErr == nil && strings.HasPrefix(public.Type(), "sk-") {
			return &identity{from: path, public: public}, nil // the private half is in a token, and the agent's to use
		}
	}
	return nil, fmt.Errorf("%s holds no key that is understood: %w", path, err)
}

func readPublic(path string) (ssh.PublicKey, error) {
	text, err := readKeyFile(path)
	if err != nil {
		return nil, err
	}
	public, _, _, _, err := ssh.ParseAuthorizedKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s holds no public key: %w", path, err)
	}
	return public, nil
}

func readKeyFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("%s is too large for a key", path)
	}
	return text, err
}

// readPrivate refuses a private key that others can read, as OpenSSH does: only if it is our own file, since others' files
// are not ours to mend. Public keys may be read by everybody.
func readPrivate(path string) ([]byte, error) {
	text, err := readKeyFile(path)
	if err != nil || runtime.GOOS == "windows" {
		return text, err
	}
	if block, _ := pem.Decode(text); block == nil {
		return text, nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o077 != 0 && ownedByUs(info) {
		return nil, fmt.Errorf("%s can be read by others (%04o), so it is not used: chmod 600 it", path, info.Mode().Perm())
	}
	return text, nil
}

// A fileSigner opens its private key when the server has said that it would take the public one, so that nobody is asked for
// a passphrase in vain.
type fileSigner struct {
	a  *login
	id *identity
}

var _ ssh.MultiAlgorithmSigner = (*fileSigner)(nil)

func (s *fileSigner) PublicKey() ssh.PublicKey { return s.id.public }

// Algorithms leaves SHA-1 out.
func (s *fileSigner) Algorithms() []string { return signatures(s.id.public) }

// signatures is how a key or the key of a certificate signs.
func signatures(public ssh.PublicKey) []string {
	if cert, ok := public.(*ssh.Certificate); ok {
		public = cert.Key
	}
	t := public.Type()
	if before, _, ok := strings.Cut(t, "-cert-"); ok { // of an agent's key, which is not parsed
		t = before
		if strings.HasPrefix(t, "sk-") {
			t += "@openssh.com"
		}
	}
	return algorithmsOf(t)
}

func (s *fileSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

func (s *fileSigner) SignWithAlgorithm(rand io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	key, err := s.a.open(s.id)
	if err != nil {
		s.a.note(err.Error())
		return nil, err
	}
	if with, ok := key.(ssh.AlgorithmSigner); ok && algorithm != "" {
		return with.SignWithAlgorithm(rand, data, algorithm)
	}
	return key.Sign(rand, data)
}

// open reads the private key, and asks for its passphrase if it has one that nobody has given yet.
func (a *login) open(id *identity) (ssh.Signer, error) {
	text, err := readPrivate(id.path)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	var missing *ssh.PassphraseMissingError
	if errors.As(err, &missing) {
		signer, err = a.unlock(id.path, text)
	}
	if err != nil {
		return nil, err
	}
	want := id.public
	if cert, ok := want.(*ssh.Certificate); ok {
		want = cert.Key
	}
	if !sameKey(signer.PublicKey(), want) {
		return nil, fmt.Errorf("%s and %s are not a pair", id.path, id.from)
	}
	if public, ok := signer.PublicKey().(ssh.CryptoPublicKey); ok {
		if k, ok := public.CryptoPublicKey().(*rsa.PublicKey); ok && k.N.BitLen() < 1024 {
			return nil, fmt.Errorf("%s is an RSA key of %d bits, which is too short", id.path, k.N.BitLen())
		}
	}
	return signer, nil
}

func (a *login) unlock(path string, text []byte) (ssh.Signer, error) {
	if signer := a.h.n.o.Secrets.get(text); signer != nil {
		return signer, nil
	}
	prompt := fmt.Sprintf("Enter passphrase for key '%s': ", path)
	for range passwordPrompts {
		passphrase, err := a.ask(prompt, false)
		if errors.Is(err, errNobody) {
			return nil, fmt.Errorf("%s has a passphrase, and there is nobody to ask: add it to an agent (ssh-add), or connect from a terminal", path)
		}
		if err != nil {
			return nil, err
		}
		if passphrase == "" {
			break
		}
		if signer, err := ssh.ParsePrivateKeyWithPassphrase(text, []byte(passphrase)); err == nil {
			a.h.n.o.Secrets.put(text, signer)
			return signer, nil
		}
	}
	return nil, fmt.Errorf("%s was not opened: no passphrase that fits", path)
}
