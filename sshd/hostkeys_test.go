package sshd

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestHostKeysAreMadeOnce(t *testing.T) {
	dir := t.TempDir()
	made, err := MakeHostKeys(dir)
	if err != nil {
		t.Fatal(err)
	}
	again, err := MakeHostKeys(dir)
	if err != nil || len(again) != 2 || len(made) != 2 {
		t.Fatal(made, again, err)
	}
	for i := range made {
		if !bytes.Equal(made[i].PublicKey().Marshal(), again[i].PublicKey().Marshal()) {
			t.Errorf("the key %s is another one at the second start", made[i].PublicKey().Type())
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != 2 {
		t.Errorf("%v is left in the directory, %v", files, err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %v", f.Name(), info.Mode())
		}
	}
}

func TestHostKeysThatAreRefused(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	good := newTestKey(t)
	text, err := os.ReadFile(good.file)
	if err != nil {
		t.Fatal(err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKeyWithPassphrase(private, "", []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	locked := pem.EncodeToMemory(block)
	for _, test := range []struct{ file, want string }{
		{write("open", string(text), 0o644), "run chmod 600"},
		{write("garbage", "no key", 0o600), "no key found"},
		{write("half", string(text[:len(text)/2]), 0o600), "no key found"},
		{write("locked", string(locked), 0o600), "no passphrase"},
		{filepath.Join(dir, "nothing"), "no such file"},
	} {
		_, err := LoadHostKeys([]string{test.file})
		if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), test.file) {
			t.Errorf("%s: %v, want %q", test.file, err, test.want)
		}
	}
	// A key that is damaged is not silently replaced: clients would take the new one for an attack.
	write("ssh_host_ed25519_key", "damaged", 0o600)
	if _, err := MakeHostKeys(dir); err == nil {
		t.Error("a damaged key was replaced")
	}
	if _, err := MakeHostKeys(filepath.Join(dir, "no", "directory")); err == nil || !strings.Contains(err.Error(), "cannot be made") {
		t.Errorf("in a directory that is not there: %v", err)
	}
	if keys, err := LoadHostKeys([]string{good.file}); err != nil || len(keys) != 1 {
		t.Error(err)
	}
}
