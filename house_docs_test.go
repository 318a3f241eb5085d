package fairlead_test

import (
	"go/ast"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestArchitectureNamesEveryRoom wants each directory with Go code in docs/ARCHITECTURE.md, written with a slash at its end.
func TestArchitectureNamesEveryRoom(t *testing.T) {
	page := read(t, "docs/ARCHITECTURE.md")
	for _, dir := range dirs(source(t)) {
		if dir != "." && !strings.Contains(page, "`"+dir+"/`") {
			t.Errorf("docs/ARCHITECTURE.md does not name `%s/`", dir)
		}
	}
	for _, room := range regexp.MustCompile("(?m)^\\| `([a-z0-9/]+)/` \\|").FindAllStringSubmatch(page, -1) {
		if _, err := os.Stat(room[1]); err != nil {
			t.Errorf("docs/ARCHITECTURE.md has a row for `%s/`, which is not there", room[1])
		}
	}
}

// TestReadmeCommandsExist takes every command line of the README's blocks and looks for its words in the code: the
// subcommand among the Use lines of cmd/fairlead, the long flags among its strings, the target in the Makefile.
func TestReadmeCommandsExist(t *testing.T) {
	words := commandWords(t)
	makefile := read(t, "Makefile")
	found := 0
	for line := range codeLines(read(t, "README.md")) {
		line, _, _ = strings.Cut(strings.TrimPrefix(strings.TrimPrefix(line, "$ "), "sudo "), " #")
		if target, ok := strings.CutPrefix(line, "make"); ok {
			found++
			if target = strings.TrimSpace(target); target != "" && !strings.Contains(makefile, "\n"+target+":") {
				t.Errorf("README.md says %q; the Makefile has no such target", line)
			}
			continue
		}
		args, ok := strings.CutPrefix(line, "fairlead ")
		if !ok {
			if args, ok = strings.CutPrefix(line, "go run ./cmd/fairlead "); !ok {
				continue
			}
		}
		found++
		fields := strings.Fields(args)
		if !words.use[fields[0]] {
			t.Errorf("README.md says %q; cmd/fairlead has no such command", line)
		}
		for _, arg := range fields[1:] {
			flag, _, _ := strings.Cut(arg, "=")
			if name, ok := strings.CutPrefix(flag, "--"); ok && !words.all[name] {
				t.Errorf("README.md says %q; cmd/fairlead has no flag %s", line, flag)
			}
		}
	}
	if found < 5 {
		t.Errorf("README.md has %d commands that this test knows how to check; it had more", found)
	}
}

// codeLines calls yield for every line inside the fenced blocks of a Markdown text.
func codeLines(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		inside := false
		for line := range strings.SplitSeq(text, "\n") {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				inside = !inside
			} else if inside && !yield(strings.TrimSpace(line)) {
				return
			}
		}
	}
}

// words are the string constants of cmd/fairlead, and those of them that name a command.
type words struct{ all, use map[string]bool }

func commandWords(t *testing.T) words {
	w := words{map[string]bool{}, map[string]bool{"help": true, "completion": true}} // these two are cobra's
	for _, f := range source(t) {
		if f.dir() != "cmd/fairlead" || f.isTest() {
			continue
		}
		ast.Inspect(f.File, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.BasicLit:
				if s, err := strconv.Unquote(n.Value); err == nil && n.Kind == token.STRING {
					w.all[s] = true
				}
			case *ast.KeyValueExpr:
				key, isName := n.Key.(*ast.Ident)
				value, isText := n.Value.(*ast.BasicLit)
				if isName && isText && key.Name == "Use" {
					s, _ := strconv.Unquote(value.Value)
					name, _, _ := strings.Cut(s, " ")
					w.use[name] = true
				}
			}
			return true
		})
	}
	return w
}

// TestExamplesAreMentioned keeps an example from being forgotten: each is linked from the README or a page of docs.
func TestExamplesAreMentioned(t *testing.T) {
	pages := read(t, "README.md")
	err := filepath.WalkDir("docs", func(name string, d fs.DirEntry, err error) error {
		if err == nil && path.Ext(name) == ".md" {
			pages += read(t, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	examples, err := filepath.Glob("examples/*")
	if err != nil || len(examples) == 0 {
		t.Fatalf("found no example (%v)", err)
	}
	for _, name := range examples {
		if !strings.Contains(pages, filepath.ToSlash(name)) {
			t.Errorf("neither README.md nor a page of docs mentions %s", name)
		}
	}
}

// TestLinksLeadSomewhere checks every relative link of the Markdown pages.
func TestLinksLeadSomewhere(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:\s]+)(#[^)]*)?\)`)
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata") {
			return filepath.SkipDir
		}
		if path.Ext(name) != ".md" {
			return nil
		}
		for _, m := range link.FindAllStringSubmatch(read(t, name), -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(name), m[1])); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
