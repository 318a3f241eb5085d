package store

import (
	"bytes"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
)

// kinds is every Store there is; what one does, all do.
func kinds(t *testing.T, test func(t *testing.T, s Store)) {
	t.Run("memory", func(t *testing.T) { test(t, Memory()) })
	t.Run("bolt", func(t *testing.T) {
		s, err := Open(filepath.Join(t.TempDir(), "state.db"))
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		test(t, s)
	})
}

func put(t *testing.T, s Store, bucket string, pairs ...string) {
	t.Helper()
	err := s.Update(func(tx Tx) error {
		for i := 0; i < len(pairs); i += 2 {
			if err := tx.Put(bucket, pairs[i], []byte(pairs[i+1])); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, s Store, bucket string) string {
	t.Helper()
	var out []string
	err := s.Each(bucket, func(k string, v []byte) error {
		out = append(out, k+"="+string(v))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func TestPutGetDelete(t *testing.T) {
	kinds(t, func(t *testing.T, s Store) {
		if v, err := s.Get("none", "none"); v != nil || err != nil {
			t.Errorf("Get of nothing = %q, %v; want nil, nil", v, err)
		}
		put(t, s, "b", "z", "1", "a", "2", "m", "")
		put(t, s, "other", "a", "9")
		if v, err := s.Get("b", "a"); string(v) != "2" || err != nil {
			t.Errorf("Get = %q, %v", v, err)
		}
		if v, err := s.Get("b", "m"); v == nil || len(v) != 0 || err != nil {
			t.Errorf("Get of an empty value = %v, %v; want empty, not nil", v, err)
		}
		if got := dump(t, s, "b"); got != "a=2 m= z=1" {
			t.Errorf("Each: %s", got)
		}
		err := s.Update(func(tx Tx) error {
			return errors.Join(tx.Delete("b", "a"), tx.Delete("b", "absent"), tx.Delete("none", "a"), tx.Put("b", "z", []byte("3")))
		})
		if got := dump(t, s, "b"); err != nil || got != "m= z=3" {
			t.Errorf("after Delete: %s, %v", got, err)
		}
		if got := dump(t, s, "other"); got != "a=9" {
			t.Errorf("the other bucket: %s", got)
		}
	})
}

func TestUpdateIsAllOrNothing(t *testing.T) {
	kinds(t, func(t *testing.T, s Store) {
		put(t, s, "b", "a", "1")
		bad := errors.New("bad")
		err := s.Update(func(tx Tx) error {
			return errors.Join(tx.Put("b", "a", []byte("2")), tx.Put("new", "x", nil), tx.Delete("b", "a"), bad)
		})
		if !errors.Is(err, bad) {
			t.Errorf("Update returned %v", err)
		}
		if got := dump(t, s, "b") + dump(t, s, "new"); got != "a=1" {
			t.Errorf("a failed Update left %s", got)
		}
	})
}

func TestValuesAreTheCallersToKeep(t *testing.T) {
	kinds(t, func(t *testing.T, s Store) {
		in := []byte("abc")
		if err := s.Update(func(tx Tx) error { return tx.Put("b", "k", in) }); err != nil {
			t.Fatal(err)
		}
		in[0] = 'X'
		got, _ := s.Get("b", "k")
		got[1] = 'X'
		if again, _ := s.Get("b", "k"); string(again) != "abc" {
			t.Errorf("the store shares its memory: %q", again)
		}
	})
}

func TestNoName(t *testing.T) {
	kinds(t, func(t *testing.T, s Store) {
		for _, name := range [][2]string{{"", "k"}, {"b", ""}} {
			if err := s.Update(func(tx Tx) error { return tx.Put(name[0], name[1], nil) }); err == nil {
				t.Errorf("Put(%q) was taken", name)
			}
			if err := s.Update(func(tx Tx) error { return tx.Delete(name[0], name[1]) }); err == nil {
				t.Errorf("Delete(%q) was taken", name)
			}
			if v, err := s.Get(name[0], name[1]); v != nil || err != nil {
				t.Errorf("Get(%q) = %v, %v", name, v, err)
			}
		}
	})
}

func TestEachStopsAtItsError(t *testing.T) {
	kinds(t, func(t *testing.T, s Store) {
		put(t, s, "b", "a", "1", "b", "2")
		stop, n := errors.New("stop"), 0
		err := s.Each("b", func(string, []byte) error { n++; return stop })
		if !errors.Is(err, stop) || n != 1 {
			t.Errorf("Each went on: %v after %d", err, n)
		}
	})
}

func TestClosed(t *testing.T) {
	kinds(t, func(t *testing.T, s Store) {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Get("b", "k")
		for _, err := range []error{
			err,
			s.Each("b", func(string, []byte) error { return nil }),
			s.Update(func(Tx) error { return nil }),
		} {
			if !errors.Is(err, ErrClosed) {
				t.Errorf("after Close: %v, want ErrClosed", err)
			}
		}
		if err := s.Close(); err != nil {
			t.Errorf("a second Close: %v", err)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	kinds(t, func(t *testing.T, s Store) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				for j := range 10 {
					key := fmt.Sprintf("%d-%d", i, j)
					put(t, s, "b", key, key)
					if got, err := s.Get("b", key); !bytes.Equal(got, []byte(key)) || err != nil {
						t.Errorf("Get(%s) = %q, %v", key, got, err)
					}
				}
			})
		}
		wg.Wait()
		if got := len(strings.Fields(dump(t, s, "b"))); got != 40 {
			t.Errorf("%d keys, want 40", got)
		}
	})
}

func TestReopen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	var keys []string
	for i := range 3 {
		s, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, fmt.Sprint(i), strings.Repeat("v", 5000*i))
		put(t, s, "b", keys[2*i:]...)
		var want []string
		for pair := range slices.Chunk(keys, 2) {
			want = append(want, pair[0]+"="+pair[1])
		}
		if got := dump(t, s, "b"); got != strings.Join(want, " ") {
			t.Errorf("round %d: %d bytes, want %d", i, len(got), len(strings.Join(want, " ")))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(path), ".new-state-*"))
	if err != nil || len(left) != 0 {
		t.Errorf("temporary files stay behind: %v, %v", left, err)
	}
}

func skipModes(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no file modes")
	}
}
