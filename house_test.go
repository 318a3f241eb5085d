// Package fairlead_test holds the rules of the house that a compiler cannot: what a package may import, how long a file may
// grow, and that the documents name what is there. It looks at the source only, so that it is quick and runs everywhere.
package fairlead_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fairlead-net/fairlead"

// A sourceFile is one Go file of the main module.
type sourceFile struct {
	path  string // from the root, with slashes
	lines int
	*ast.File
}

func (f sourceFile) dir() string  { return path.Dir(f.path) }
func (f sourceFile) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// imports calls yield for every package of this module that f imports, named from the root.
func (f sourceFile) imports(yield func(string) bool) {
	for _, spec := range f.Imports {
		if room, ok := strings.CutPrefix(strings.Trim(spec.Path.Value, `"`), module+"/"); ok && !yield(room) {
			return
		}
	}
}

// source is every Go file of the main module, whatever system it is for. testdata, hidden directories and modules of their
// own (tools) are not part of it.
func source(t *testing.T) []sourceFile {
	t.Helper()
	var files []sourceFile
	set := token.NewFileSet()
	err := filepath.WalkDir(".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir():
			if name != "." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "testdata" || d.Name() == "bin" || d.Name() == "dist") {
				return filepath.SkipDir
			}
			if _, err := os.Stat(filepath.Join(name, "go.mod")); err == nil && name != "." {
				return filepath.SkipDir
			}
			return nil
		case filepath.Ext(name) != ".go":
			return nil
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(set, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, sourceFile{filepath.ToSlash(name), strings.Count(string(text), "\n"), parsed})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files; this test must run in the root of the project", len(files))
	}
	return files
}

// dirs is every directory of files, sorted.
func dirs(files []sourceFile) []string {
	var list []string
	for _, f := range files {
		list = append(list, f.dir())
	}
	slices.Sort(list)
	return slices.Compact(list)
}

func TestFilesStaySmall(t *testing.T) {
	for _, f := range source(t) {
		if f.lines > 500 {
			t.Errorf("%s has %d lines; 500 is the most, so look for the seam", f.path, f.lines)
		}
		if path.Base(f.path) == "main.go" && f.lines >= 200 {
			t.Errorf("%s has %d lines; a main.go stays under 200", f.path, f.lines)
		}
	}
}

// TestPackagesSayWhatTheyAreFor wants one package comment a directory. A directory of tests alone may have it in a test.
func TestPackagesSayWhatTheyAreFor(t *testing.T) {
	files := source(t)
	for _, dir := range dirs(files) {
		var docs []string
		name := ""
		for _, f := range files {
			if f.dir() != dir {
				continue
			}
			if !f.isTest() || name == "" {
				name = f.Name.Name
			}
			if f.Doc != nil {
				docs = append(docs, f.Doc.Text())
			}
		}
		want := "Package " + name + " "
		if name == "main" {
			want = "Command "
		}
		if len(docs) != 1 || !strings.HasPrefix(docs[0], want) {
			t.Errorf("%s has %d package comments; it needs one, which starts with %q", dir, len(docs), want)
		}
	}
}

func TestNothingRunsBeforeMain(t *testing.T) {
	for _, f := range source(t) {
		if f.isTest() {
			continue
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				t.Errorf("%s has an init function; let the caller construct what it needs", f.path)
			}
		}
	}
}
