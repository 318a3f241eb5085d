package config_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

var update = flag.Bool("update", false, "write the golden files anew")

// render is err the way a command shows it: every problem on a line, its hint below.
func render(t *testing.T, err error) string {
	t.Helper()
	var errs config.Errors
	if !errors.As(err, &errs) {
		t.Fatalf("the error is %T, not config.Errors: %v", err, err)
	}
	var b strings.Builder
	for i, e := range errs {
		if more := i == 20; e.Hint == "" && !more {
			t.Errorf("no hint for: %v", e)
		}
		fmt.Fprintln(&b, e)
		if e.Hint != "" {
			fmt.Fprintf(&b, "  hint: %s\n", e.Hint)
		}
	}
	return b.String()
}

// TestBad holds the exact words of every refusal: each file below testdata/bad has the errors it gets beside it.
func TestBad(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			_, err = config.Parse("fairlead.toml", data)
			if err == nil {
				t.Fatal("parsed")
			}
			got := render(t, err)
			golden := strings.TrimSuffix(file, ".toml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			// Line ends of another system and a byte order mark change nothing but the mark of the line.
			_, err = config.Parse("fairlead.toml", append([]byte("\ufeff"), bytes.ReplaceAll(data, []byte("\n"), []byte("\r\n"))...))
			if err == nil || strings.Count(err.Error(), "\n") != strings.Count(strings.Join(errorLines(got), "\n"), "\n") {
				t.Errorf("with CRLF and a byte order mark: %v", err)
			}
		})
	}
}

func errorLines(rendered string) (lines []string) {
	for line := range strings.Lines(rendered) {
		if !strings.HasPrefix(line, "  hint: ") {
			lines = append(lines, line[:len(line)-1])
		}
	}
	return lines
}

// manyForwards is a configuration of n plain forwards, one on each address.
func manyForwards(n int) []byte {
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, "[forward.f%05d]\nlisten = \"tcp/10.%d.%d.%d:80\"\nto = \"192.168.1.10:8080\"\n\n", i, i>>16, i>>8&255, i&255)
	}
	return b.Bytes()
}

func TestBadBytes(t *testing.T) {
	const save = "fairlead.toml is plain text; save it as UTF-8"
	forwardA := "[forward.a]\nlisten = \"80\"\nto = \"192.168.1.10\"\n"
	ports := make([]string, 0, 2000)
	for i := range cap(ports) {
		ports = append(ports, fmt.Sprintf("%d-%d", 3*i+1, 3*i+2))
	}
	networks := make([]string, 0, 1000)
	for i := range cap(networks) {
		networks = append(networks, fmt.Sprintf("\"10.0.%d.%d\"", i>>8, i&255))
	}
	for _, test := range []struct{ name, data, want, hint string }{
		{"zero byte", forwardA + "\x00", "x.toml:4:1: this is no text file: there is a zero byte in it", save},
		{"elf", "\x7fELF\x02\x01\x01\x00\x00", "x.toml:1:8: this is no text file: there is a zero byte in it", save},
		{"latin 1", "# caf\xe9\n", "x.toml:1:6: this is no UTF-8 text: there is a byte 0xe9 in it", save},
		{"gzip", "\x1f\x8b\x08\x08", "x.toml:1:2: this is no UTF-8 text: there is a byte 0x8b in it", save},
		{"utf-16", "\xff\xfe[\x00", "x.toml:1:1: the file is UTF-16 text", save},
		{"control", forwardA + "\x01", "x.toml:4:1: forward \"a\": invalid character at start of key: U+0001", "the file is TOML: [forward.NAME], then lines such as listen = \"80\""},
		{"70,000 forwards", string(manyForwards(70000)), "x.toml:262145:1: forward \"f65536\": the file has 70000 forwards; 65536 is the most", "one forward takes a range or a list of ports, such as listen = \"8000-8999\""},
		{"too large", strings.Repeat("#\n", config.MaxSize/2+1), "x.toml: the file is larger than 16 MiB", "is this the file you meant? A configuration holds at most 65536 forwards, about 5 MB of text"},
		{"deep", "a = " + strings.Repeat("[", 1<<20), "x.toml:1:10005: arrays and inline tables are nested more than the maximum of 10000 levels deep", "the file is TOML: [forward.NAME], then lines such as listen = \"80\""},
		{"long key", strings.Repeat("a.", 1<<16) + "a = 1", "x.toml:1:1: the key has more than 16 parts", "a key of a forward is forward.NAME.KEY; a name with dots stands in quotes"},
		{"long list", "[forward.a]\nfrom = [" + strings.Repeat("1,", 1<<16+1) + "]", "x.toml:2:8: the list has more than 65536 items", "neighbouring networks may be written as one, such as 10.0.0.0/8"},
		{"long value", "[forward.a]\nto=\"x\"\nlisten = \"" + strings.Repeat("x", 1<<20) + "\"", "x.toml:3:10: forward \"a\": listen: \"" + strings.Repeat("x", 491) + "…", config.Help("listen")},
		{
			"billions of claims", "[forward.a]\nlisten = \"" + strings.Join(ports, ",") + "\"\nto = \"192.168.1.10\"\nfrom = [" + strings.Join(networks, ",") + "]",
			"x.toml:4:8: forward \"a\": from: 1000 networks times 2000 port ranges are 2000000 combinations; 1048576 is the most", "write neighbouring networks or ports as one",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := config.Parse("x.toml", []byte(test.data))
			if err == nil {
				t.Fatal("parsed")
			}
			if got, want := render(t, err), test.want+"\n  hint: "+test.hint+"\n"; got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestLoadBad(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.toml")
	if err := os.WriteFile(large, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(large, 50<<20); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.toml")
	for _, test := range []struct{ path, want string }{
		{missing, "there is no such file"},
		{dir, "this is a directory"},
		{large, "the file is larger than 16 MiB"},
	} {
		_, err := config.Load(test.path)
		if err == nil {
			t.Fatalf("%s: loaded", test.path)
		}
		if got := errorLines(render(t, err))[0]; got != test.path+": "+test.want {
			t.Errorf("%s: %s", test.path, got)
		}
	}
	if _, err := config.Load(missing); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v is not fs.ErrNotExist", err)
	}
}

// TestErrorTypes: callers decide by type, not by text.
func TestErrorTypes(t *testing.T) {
	_, err := config.Parse("", []byte("[forward.a]\nlisten = \"80\"\nto = \"h\"\n[forward.b]\nlisten = \"80\"\nto = \"h\"\n[forward.c]\nlisten = \"0\"\nto = \"h\""))
	var tie *forward.TieError
	if !errors.As(err, &tie) || tie.Name != "b" || tie.Other != "a" {
		t.Errorf("tie: %+v in %v", tie, err)
	}
	var field *forward.FieldError
	if !errors.As(err, &field) || field.Field != "listen" {
		t.Errorf("field: %+v in %v", field, err)
	}
	if hint := config.Hint(field); hint != config.Help("listen") {
		t.Errorf("hint: %s", hint)
	}
}
