//go:build unix

package main

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// TestEditFile: the mode and the owner stay, nothing is left beside the file, and a change that cannot be changes nothing.
func TestEditFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "a.toml")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	owner := os.Geteuid()
	if owner == 0 { // only root can give a file away
		owner = nobody
	}
	if err := errors.Join(os.Chown(path, owner, -1), os.Chmod(path, 0o646)); err != nil {
		t.Fatal(err)
	}
	no := errors.New("no")
	if err := editFile(path, func([]byte) ([]byte, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("%v", err)
	}
	if err := editFile(path, func(old []byte) ([]byte, error) { return append(old, " and new"...), nil }); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != "old and new" {
		t.Errorf("%q, %v", text, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if stat := info.Sys().(*syscall.Stat_t); info.Mode() != 0o646 || int(stat.Uid) != owner {
		t.Errorf("mode %v, owner %d", info.Mode(), stat.Uid)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if err := editFile(dir, nil); err == nil {
		t.Error("a directory was edited")
	}
}
