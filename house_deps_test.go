package fairlead_test

import (
	"flag"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write deps.txt anew")

const depsHeader = `# The modules that are linked into the Linux binary. A line more is a decision: say in the commit what the module is for.
# make deps writes this file; house_deps_test.go compares it.
`

// TestLinkedModules compares deps.txt with what the Linux binary is built from. go.mod cannot tell: it lists what tests
// need, and what only other systems need, as well.
func TestLinkedModules(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}{{end}}{{end}}", "./cmd/fairlead")
	cmd.Env = append(os.Environ(), "GOOS=linux", "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	linked := strings.Fields(string(out))
	slices.Sort(linked)
	linked = slices.Compact(linked)
	want := depsHeader + strings.Join(linked, "\n") + "\n"
	if *update {
		if err := os.WriteFile("deps.txt", []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile("deps.txt")
	if err != nil {
		t.Fatal(err)
	}
	listed := slices.DeleteFunc(strings.Split(strings.TrimSpace(string(got)), "\n"), func(line string) bool {
		return strings.HasPrefix(line, "#")
	})
	for _, m := range linked {
		if !slices.Contains(listed, m) {
			t.Errorf("%s is linked and not in deps.txt; if that is wanted, run make deps", m)
		}
	}
	for _, m := range listed {
		if !slices.Contains(linked, m) {
			t.Errorf("%s is in deps.txt and no longer linked; run make deps", m)
		}
	}
}
