package testport

import (
	"net"
	"slices"
	"testing"
)

// TestFree has ports found while one is taken: it is left out, and no other comes again soon.
func TestFree(t *testing.T) {
	if errOwn != nil {
		t.Fatal(errOwn)
	}
	taken, err := Free()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", ":"+taken)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var found []string
	for range size {
		port, err := Free()
		if err != nil {
			t.Fatal(err)
		}
		if port == taken || slices.Contains(found[max(0, len(found)-size/2):], port) { // others may have some of the block
			t.Fatalf("%s was found, which is taken, or was found a moment ago", port)
		}
		found = append(found, port)
	}
}

// TestHold has no two holders of one block.
func TestHold(t *testing.T) {
	other, err := hold()
	if err != nil {
		t.Fatal(err)
	}
	defer other.holder.Close()
	if other.first == own.first {
		t.Errorf("both have the block of %d", own.first)
	}
}
