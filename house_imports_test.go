package fairlead_test

import (
	"slices"
	"strings"
	"testing"
)

// mayImport says what the code of each room may import of this module, besides itself. Imports point one way:
//
//	forward <- config, node, relay, kernel, store, wake, sshd <- table <- api <- cmd
//
// .golangci.yml says the same to an editor; this is the list that must be right.
var mayImport = map[string][]string{
	"forward":             {},
	"config":              {"forward", "node", "password", "portmap"},
	"kernel":              {"forward"},
	"store":               {"forward"},
	"wake":                {"forward"},
	"node":                {"forward"},
	"node/host":           {"forward", "node"}, // and no other kind of node
	"node/nodetest":       {"forward", "node"},
	"node/sshnode":        {"forward", "node", "internal/sshchan", "internal/sshwire"},
	"node/agent":          {"forward", "node", "tunnel", "internal/deadline"},
	"tunnel":              {"node", "tunnel/wire", "internal/processors"}, // sockets of this machine that a stream carries: node.Bearer
	"tunnel/wire":         {},
	"tunnel/tunneltest":   {"tunnel"},
	"tunnel/link":         {"tunnel"},
	"hub":                 {"forward", "node", "node/agent", "store", "tunnel"},
	"password":            {},
	"portmap":             {"forward"},
	"portmap/grant":       {"forward", "portmap", "store", "table"}, // leases are in the table
	"portmap/neighbours":  {},
	"firewall":            {"forward"},
	"relay":               {"forward", "node", "wake", "internal/processors"},
	"relay/head/headtest": {"relay"}, // the contract of heads
	"sshd":                {"forward", "node", "internal/sshchan", "internal/sshwire", "internal/processors"},
	"table":               {"forward", "config", "node", "relay", "kernel", "store"},
	"api":                 {"forward", "config", "node", "relay", "kernel", "store", "table", "portmap"},
	"cmd": {
		"forward", "config", "node", "node/host", "node/sshnode", "password", "relay", "kernel", "sshd", "store", "table", "api", "wake", "portmap", "portmap/grant", "portmap/neighbours",
		"firewall", "hub", "node/agent", "tunnel", "tunnel/link",
		"internal/sshchan",
	},
	"internal/netlab":     {},
	"internal/sshchan":    {"node", "internal/deadline", "internal/sshwire"},
	"internal/sshwire":    {"internal/deadline"},
	"internal/deadline":   {},
	"internal/testport":   {},
	"internal/processors": {},
}

// onlyForTests are rooms that bench and e2e may import as a whole and every other room in its tests only.
var onlyForTests = []string{"internal/netlab", "internal/testport", "node/nodetest", "relay/head/headtest", "tunnel/tunneltest"}

func TestImportsPointOneWay(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range source(t) {
		room := roomOf(f.dir())
		allowed, known := mayImport[room]
		seen[room] = true
		for imported := range f.imports {
			target := roomOf(imported)
			switch {
			case target == "cmd":
				t.Errorf("%s imports %s; nobody imports a command", f.path, imported)
			case f.isTest() || testRoom(f.dir()) || target == room:
			case !known:
				t.Errorf("%s imports %s, but the room %q is not in the list of this test", f.path, imported, room)
			case !slices.Contains(allowed, target):
				t.Errorf("%s imports %s; the room %q may import %s", f.path, imported, room, listOf(allowed))
			case slices.Contains(onlyForTests, target):
				t.Errorf("%s imports %s, which is for tests", f.path, imported)
			}
		}
	}
	if !seen["forward"] {
		t.Error("the room forward was not found; this test has looked at nothing")
	}
}

// TestForwardIsStandardLibraryOnly keeps the nouns free of every dependency.
func TestForwardIsStandardLibraryOnly(t *testing.T) {
	for _, f := range source(t) {
		if f.dir() != "forward" || f.isTest() {
			continue
		}
		for _, spec := range f.Imports {
			if strings.Contains(strings.Split(spec.Path.Value, "/")[0], ".") {
				t.Errorf("%s imports %s; forward is for the standard library alone", f.path, spec.Path.Value)
			}
		}
	}
}

// roomOf is the longest entry of mayImport that dir lies in, else its first element.
func roomOf(dir string) string {
	best := ""
	for room := range mayImport {
		if (dir == room || strings.HasPrefix(dir, room+"/")) && len(room) > len(best) {
			best = room
		}
	}
	if best == "" {
		best, _, _ = strings.Cut(dir, "/")
	}
	return best
}

// testRoom reports whether a directory exists for tests and measurements, and may import what it drives.
func testRoom(dir string) bool {
	first, _, _ := strings.Cut(dir, "/")
	return first == "e2e" || first == "bench"
}

func listOf(rooms []string) string {
	if len(rooms) == 0 {
		return "no other"
	}
	return strings.Join(rooms, ", ")
}
