package sshd

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/crypto/ssh"
)

// The RSA keys that are made, and the least that is taken. 3072 bits are as strong as the rest (NIST SP 800-57, table 2).
const (
	madeRSABits  = 3072
	leastRSABits = 2048
)

// LoadHostKeys reads private host keys, one a file, which nobody but the owner may read.
func LoadHostKeys(files []string) ([]ssh.Signer, error) {
	var keys []ssh.Signer
	for _, name := range files {
		key, err := loadHostKey(name)
		if err != nil {
			return nil, fmt.Errorf("host key %s: %w", name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func loadHostKey(name string) (ssh.Signer, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, pathless(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read it (%v); run chmod 600", info.Mode().Perm())
	}
	text, err := readAll(f, 1<<20)
	if err != nil {
		return nil, err
	}
	signer, err := ssh.ParsePrivateKey(text)
	var locked *ssh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, errors.New("it is encrypted; a host key has no passphrase")
	}
	if err != nil {
		return nil, err
	}
	return strong(signer)
}

// strong keeps RSA from signing with SHA-1 (RFC 8332), and refuses keys that are too weak.
func strong(signer ssh.Signer) (ssh.Signer, error) {
	public, ok := signer.PublicKey().(ssh.CryptoPublicKey)
	if !ok {
		return signer, nil
	}
	rsaKey, ok := public.CryptoPublicKey().(*rsa.PublicKey)
	if !ok {
		return signer, nil
	}
	if rsaKey.N.BitLen() < leastRSABits {
		return nil, fmt.Errorf("RSA with %d bits is too weak; %d is the least", rsaKey.N.BitLen(), leastRSABits)
	}
	plain, ok := signer.(ssh.AlgorithmSigner)
	if !ok {
		return nil, errors.New("this RSA key signs with SHA-1 only")
	}
	return ssh.NewSignerWithAlgorithms(plain, []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256})
}

// MakeHostKeys loads the host keys in dir, an Ed25519 and an RSA one, and makes those that are not there. There is none for
// ECDSA: every client that is in use knows one of the two, and audits warn of the NIST curves.
func MakeHostKeys(dir string) ([]ssh.Signer, error) {
	var keys []ssh.Signer
	for _, kind := range []struct {
		file string
		make func() (crypto.PrivateKey, error)
	}{
		{"ssh_host_ed25519_key", func() (crypto.PrivateKey, error) {
			_, key, err := ed25519.GenerateKey(rand.Reader)
			return key, err
		}},
		{"ssh_host_rsa_key", func() (crypto.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, madeRSABits) }},
	} {
		name := filepath.Join(dir, kind.file)
		if _, err := os.Stat(name); errors.Is(err, fs.ErrNotExist) {
			private, err := kind.make()
			if err == nil {
				err = writeHostKey(name, private)
			}
			if err != nil {
				return nil, fmt.Errorf("host key %s: it is not there and cannot be made: %w", name, pathless(err))
			}
		}
		key, err := loadHostKey(name)
		if err != nil {
			return nil, fmt.Errorf("host key %s: %w", name, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// writeHostKey writes a key so that after a crash there is a whole one or none.
func writeHostKey(name string, key crypto.PrivateKey) error {
	block, err := ssh.MarshalPrivateKey(key, "fairlead")
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(name), filepath.Base(name)+".*") // 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once it has its name
	_, err = f.Write(pem.EncodeToMemory(block))
	if err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return err
	}
	if runtime.GOOS == "windows" {
		return nil // a directory cannot be synced there
	}
	dir, err := os.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

// pathless is an error of package os without the path, where the sentence around it has it.
func pathless(err error) error {
	var e *fs.PathError
	if errors.As(err, &e) {
		return e.Err
	}
	return err
}
