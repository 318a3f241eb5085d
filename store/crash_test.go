package store

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// crashPath names the file that the writing child of TestSurvivesKill works on.
const crashPath = "FAIRLEAD_STORE_CRASH_PATH"

func TestMain(m *testing.M) {
	if path := os.Getenv(crashPath); path != "" {
		if err := writeForever(path); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

const crashKeys = 50

// writeForever writes one number to every key in each transaction, and says each number when it is kept.
func writeForever(path string) error {
	s, err := Open(path)
	if err != nil {
		return err
	}
	last, err := s.Get("crash", "key-0")
	if err != nil {
		return err
	}
	n := uint64(0)
	if last != nil {
		n = binary.BigEndian.Uint64(last)
	}
	for n++; ; n++ {
		value := make([]byte, 8+n%3000) // sizes change, so that pages split, merge and are freed
		binary.BigEndian.PutUint64(value, n)
		err := s.Update(func(tx Tx) error {
			for i := range crashKeys {
				if err := tx.Put("crash", fmt.Sprintf("key-%d", i), value); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		fmt.Println(n)
	}
}

// TestSurvivesKill kills a process that does nothing but write, at random moments: afterwards the file opens, holds whole
// transactions only, and every one that was reported as kept.
func TestSurvivesKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state", "state.db")
	for round := range 10 {
		said := killWriter(t, path, time.Duration(rand.IntN(40_000))*time.Microsecond)
		s, err := Open(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		var first, keys uint64
		err = s.Each("crash", func(key string, value []byte) error {
			n := binary.BigEndian.Uint64(value)
			if keys++; keys == 1 {
				first = n
			}
			if n != first || len(value) != int(8+n%3000) {
				t.Errorf("round %d: %s is of transaction %d, others of %d", round, key, n, first)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		if keys != crashKeys || first < said {
			t.Errorf("round %d: %d keys of transaction %d; the writer had said that %d is kept", round, keys, first, said)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killWriter starts a writer, lets it keep something, kills it a while later and returns the last number that it said.
func killWriter(t *testing.T, path string, after time.Duration) uint64 {
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), crashPath+"="+path)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var last uint64
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		n, err := strconv.ParseUint(lines.Text(), 10, 64)
		if err != nil {
			break // the last line, cut short
		}
		if last == 0 {
			time.AfterFunc(after, func() { _ = cmd.Process.Kill() })
		}
		last = n
	}
	_ = cmd.Wait() // killed
	if last == 0 {
		t.Fatalf("the writer wrote nothing: %s", stderr.String())
	}
	return last
}
