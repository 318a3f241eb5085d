package link

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead-net/fairlead/tunnel"
)

func TestLoadIdentity(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "hub.key")
	var wait sync.WaitGroup
	keys := make([]tunnel.Key, 8)
	for i := range keys { // at once
		wait.Go(func() {
			id, err := LoadIdentity(file)
			if err != nil {
				t.Error(err)
				return
			}
			keys[i] = id.Key()
		})
	}
	wait.Wait()
	for _, k := range keys {
		if k != keys[0] || k.IsZero() {
			t.Fatalf("there are several keys: %v", keys)
		}
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if rest, _ := os.ReadDir(filepath.Dir(file)); len(rest) != 1 {
		t.Errorf("files are left over: %v", rest)
	}
}

func TestLoadIdentityRefuses(t *testing.T) {
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(other)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		want       string
	}{
		{"nothing", "", 0o600, "BEGIN PRIVATE KEY"},
		{"no key", "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n", 0o600, "asn1"},
		{"ECDSA", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})), 0o600, "not of Ed25519"},
		{"open to all", "x", 0o644, "chmod 600"},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "key")
			if err := os.WriteFile(file, []byte(c.text), c.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadIdentity(file)
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), file) || strings.Count(err.Error(), file) > 1 {
				t.Errorf("%v; want %q", err, c.want)
			}
		})
	}
	if _, err := LoadIdentity(t.TempDir()); err == nil {
		t.Error("a directory is no key")
	}
	if _, err := NewIdentity(nil); err == nil {
		t.Error("nothing is no key")
	}
}

func FuzzParseKey(f *testing.F) {
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, text []byte) {
		key, err := parseKey(text)
		if err != nil {
			return
		}
		if _, err := NewIdentity(key); err != nil {
			t.Error(err)
		}
	})
}
