package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/bbolt"
)

func TestOpenIsPrivate(t *testing.T) {
	skipModes(t)
	path := filepath.Join(t.TempDir(), "new", "dir", "state.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for name, want := range map[string]os.FileMode{path: 0o600, filepath.Dir(path): 0o700} {
		info, err := os.Stat(name)
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, want %v (%v)", name, info.Mode().Perm(), want, err)
		}
	}
}

func TestOpenTightensTheMode(t *testing.T) {
	skipModes(t)
	path := filepath.Join(t.TempDir(), "state.db")
	for range 2 {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, %v", info.Mode().Perm(), err)
		}
		s.Close()
		if err := os.Chmod(path, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOpenLocked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	_, err = Open(path) // flock(2) locks are per open file: our own process counts
	var open *OpenError
	if !errors.Is(err, ErrLocked) || !errors.As(err, &open) {
		t.Fatalf("a second Open: %v, want ErrLocked", err)
	}
	if !strings.Contains(err.Error(), path) || !strings.Contains(open.Advice(), "--state") {
		t.Errorf("%q (%q) does not name the file and what to do", err, open.Advice())
	}
}

func TestOpenForeign(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{
		"text":  strings.Repeat("[forward.web]\nlisten = \"80\"\n", 500),
		"short": "x",
		"zeros": string(make([]byte, 64<<10)),
		"nul":   string(make([]byte, 1)),
	} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := Open(path)
		var open *OpenError
		if !errors.Is(err, ErrForeign) || !errors.As(err, &open) || open.Path != path || open.Do == "" {
			t.Errorf("%s: %v, want ErrForeign with advice", name, err)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != content {
			t.Errorf("%s: a foreign file was changed (%v)", name, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o044 == 0 {
			t.Errorf("%s: the mode of a foreign file was changed: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := Open(dir); !errors.Is(err, ErrForeign) {
		t.Errorf("a directory: %v, want ErrForeign", err)
	}
}

func TestOpenEmptyFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	put(t, s, "b", "k", "v")
	s.Close()
}

// sample is the bytes of a state file with branch pages, pages that flow over, inline buckets and free pages.
func sample(t testing.TB, keys int) []byte {
	path := filepath.Join(t.TempDir(), "sample.db")
	s, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for round := range 2 {
		err := s.Update(func(tx Tx) error {
			var errs []error
			for i := range keys {
				errs = append(errs, tx.Put("many", fmt.Sprintf("key-%05d", i), bytes.Repeat([]byte{byte(i)}, 40+round)))
			}
			return errors.Join(append(errs, tx.Put("big", "k", make([]byte, 9000*(2-round))), tx.Put("small", "k", []byte("v")))...)
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	s.Close()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// openBytes opens a file with these bytes and, when it opens, uses all of it. Nothing may panic, fault or hang.
func openBytes(t *testing.T, b []byte) error {
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := Open(path)
	if err != nil {
		return err
	}
	defer s.Close()
	for _, bucket := range []string{"many", "big", "small"} {
		if err := s.Each(bucket, func(string, []byte) error { return nil }); err != nil {
			t.Errorf("reading %s of a file that opened: %v", bucket, err)
		}
	}
	put(t, s, "new", "k", strings.Repeat("v", 20000))
	return nil
}

func TestOpenDamaged(t *testing.T) {
	whole := sample(t, 300)
	if err := openBytes(t, whole); err != nil {
		t.Fatalf("the whole file: %v", err)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	refused := 0
	for i := range 60 {
		b := bytes.Clone(whole)
		switch i % 3 {
		case 0: // cut short
			b = b[:rng.IntN(len(b)-1)+1]
		case 1: // a page of noise
			at := rng.IntN(len(b) - 4096)
			for j := range 4096 {
				b[at+j] = byte(rng.Uint32())
			}
		case 2: // a header of noise
			at := rng.IntN(len(b)/4096) * 4096
			for j := range 32 {
				b[at+j] = byte(rng.Uint32())
			}
		}
		// What is refused is refused the same way every time, after a wait for a writer that might be at it; a few will do.
		if err := checkBytes(b); err == nil || refused < 3 {
			if opened := openBytes(t, b); (opened == nil) != (err == nil) {
				t.Errorf("damage %d: check says %v, Open says %v", i, err, opened)
			}
		}
		if checkBytes(b) != nil {
			refused++
		}
	}
	if refused < 10 {
		t.Errorf("only %d of 60 damaged files were refused", refused)
	}
}

func checkBytes(b []byte) error { return check(bytes.NewReader(b), int64(len(b))) }

func TestCheckNames(t *testing.T) {
	whole := sample(t, 300)
	// The valid meta page of the two that leads to the current root.
	m, err := newestMeta(bytes.NewReader(whole), int64(len(whole)))
	if err != nil {
		t.Fatal(err)
	}
	at := func(page uint64) int { return int(page) * int(m.pageSize) }
	tests := []struct {
		name   string
		damage func(b []byte) []byte
		want   error
		says   string
	}{
		{"cut", func(b []byte) []byte { return b[:m.pages*uint64(m.pageSize)-1] }, ErrDamaged, "cut short"},
		{"one page", func(b []byte) []byte { return b[:m.pageSize] }, ErrDamaged, "cut short"},
		{"metas", func(b []byte) []byte { b[60], b[int(m.pageSize)+60] = b[60]+1, b[int(m.pageSize)+60]+1; return b }, ErrDamaged, "first pages"},
		{"root kind", func(b []byte) []byte { b[at(m.root)+8] = 0x40; return b }, ErrDamaged, "kind 0x40"},
		{"root number", func(b []byte) []byte { b[at(m.root)] ^= 1; return b }, ErrDamaged, "says that it is"},
		{"overflow", func(b []byte) []byte { b[at(m.root)+15] = 1; return b }, ErrDamaged, "flows over"},
		{"key size", func(b []byte) []byte { b[at(m.root)+16+8+3] = 1; return b }, ErrDamaged, "reaches out"},
		{"freelist kind", func(b []byte) []byte { b[at(m.freelist)+8] = leafPage; return b }, ErrDamaged, "no list of free"},
		{"freelist entry", func(b []byte) []byte {
			binary.NativeEndian.PutUint64(b[at(m.freelist)+16:], m.root)
			return b
		}, ErrDamaged, "listed as free"},
		{"older meta torn", func(b []byte) []byte {
			older := 0
			if m.txid%2 == 0 {
				older = int(m.pageSize)
			}
			b[older+70]++
			return b
		}, nil, ""},
	}
	for _, test := range tests {
		err := checkBytes(test.damage(bytes.Clone(whole)))
		if !errors.Is(err, test.want) || err != nil && !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v, want %v … %s", test.name, err, test.want, test.says)
		}
	}
}

// What check takes and what bbolt's own, panicking check takes are the same.
func TestCheckAgreesWithBolt(t *testing.T) {
	whole := sample(t, 2000)
	if err := checkBytes(whole); err != nil {
		t.Error(err)
	}
	path := filepath.Join(t.TempDir(), "state.db")
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if err := db.View(func(tx *bbolt.Tx) error {
		for err := range tx.Check() {
			t.Error(err)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// FuzzCheck looks for bytes that check takes and bbolt then falls over.
func FuzzCheck(f *testing.F) {
	whole := sample(f, 60)
	f.Add(uint32(0), []byte{})
	for page := range uint32(len(whole) / 4096) {
		f.Add(page*4096, []byte{9, 9, 9, 9, 9, 9, 9, 9, 0x42})
		f.Add(page*4096+10, []byte{0xff, 0xff})
		f.Add(page*4096+16, []byte{0xff, 0xff, 0xff, 0xff, 1})
	}
	f.Fuzz(func(t *testing.T, at uint32, patch []byte) {
		b := bytes.Clone(whole)
		copy(b[min(int(at), len(b)):], patch)
		if checkBytes(b) == nil {
			_ = openBytes(t, b)
		}
	})
}

// FuzzOpenForeign gives check bytes of nobody's making.
func FuzzOpenForeign(f *testing.F) {
	f.Add([]byte("not a state file"))
	f.Add(sample(f, 2)[:8192])
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			_ = checkBytes(b)
		}
	})
}
