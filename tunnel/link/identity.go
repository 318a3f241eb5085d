package link

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/fairlead-net/fairlead/tunnel"
)

// An Identity is the key pair of a hub or an agent, with the certificate that shows it.
type Identity struct {
	key  tunnel.Key
	cert tls.Certificate
}

// Key is the public key.
func (i *Identity) Key() tunnel.Key { return i.key }

// NewIdentity makes the certificate of a key. Names and dates are in it because a certificate has some; nobody looks at them.
func NewIdentity(private ed25519.PrivateKey) (*Identity, error) {
	if len(private) != ed25519.PrivateKeySize {
		return nil, errors.New("that is no Ed25519 private key")
	}
	public := private.Public().(ed25519.PublicKey)
	shape := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "fairlead"},
		DNSNames:     []string{"fairlead"},
		NotBefore:    time.Unix(0, 0),
		NotAfter:     time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), // RFC 5280, section 4.1.2.5: no date
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, shape, shape, public, private)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &Identity{tunnel.Key(public), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}}, nil
}

// LoadIdentity reads the key in a file (PEM, PKCS #8), which nobody but its owner may read. If there is none, it is made.
func LoadIdentity(file string) (*Identity, error) {
	private, err := readKey(file)
	if errors.Is(err, fs.ErrNotExist) {
		private, err = makeKey(file)
	}
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", file, pathless(err))
	}
	return NewIdentity(private)
}

func readKey(file string) (ed25519.PrivateKey, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no file")
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("others may read it (%v); run chmod 600, or remove it to have another one made, which has to be enrolled again", info.Mode().Perm())
	}
	text, err := io.ReadAll(io.LimitReader(f, 1<<16))
	if err != nil {
		return nil, err
	}
	return parseKey(text)
}

func parseKey(text []byte) (ed25519.PrivateKey, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PRIVATE KEY" {
		return nil, errors.New(`it has no "BEGIN PRIVATE KEY"; remove it to have another one made, which has to be enrolled again`)
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, err
	}
	private, ok := key.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("it is a %T, and not of Ed25519", key)
	}
	return private, nil
}

// makeKey writes a new key so that after a crash there is a whole one or none, and so that of two that do so at once both have the
// same in the end.
func makeKey(file string) (ed25519.PrivateKey, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, err
	}
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.CreateTemp(dir, ".key-*") // 0600
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return nil, err
	}
	switch err := os.Link(f.Name(), file); {
	case errors.Is(err, fs.ErrExist):
		return readKey(file)
	case err != nil: // not every file system has hard links
		if err := os.Rename(f.Name(), file); err != nil {
			return nil, err
		}
	}
	return private, nil
}

// pathless leaves out the path that an error of package os names, which the caller says anyway.
func pathless(err error) error {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &link):
		return link.Err
	}
	return err
}
