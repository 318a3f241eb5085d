// Command noskip reads `go test -json` from standard input, prints what a person wants to see of it, and fails when a test
// failed, when none ran, or when one was skipped that must run. A skip is excused by a line "TestName reason" in the file
// that is its argument; an excuse that no test used any more fails too.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// event is a line of go test -json; see `go doc test2json`.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

func main() {
	excuses := map[string]string{}
	if len(os.Args) > 1 {
		text, err := os.ReadFile(os.Args[1])
		if err != nil {
			fmt.Fprintln(os.Stderr, "noskip:", err)
			os.Exit(2)
		}
		for line := range strings.Lines(string(text)) {
			if name, reason, _ := strings.Cut(strings.TrimSpace(line), " "); name != "" && name[0] != '#' {
				excuses[name] = reason
			}
		}
	}
	if !judge(os.Stdin, os.Stdout, excuses) {
		os.Exit(1)
	}
}

// judge copies what matters of in to out, and reports whether every test ran and passed.
func judge(in io.Reader, out io.Writer, excuses map[string]string) bool {
	var passed, failed, skipped, broken int
	used := map[string]bool{}
	output := map[string][]string{} // of each test, until it is known to be of interest
	var complaints []string
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if json.Unmarshal(lines.Bytes(), &e) != nil { // a compiler's or linker's words
			fmt.Fprintln(out, lines.Text())
			continue
		}
		name := e.Package + " " + e.Test
		switch {
		case e.Action == "build-output":
			fmt.Fprint(out, e.Output)
		case e.Action == "build-fail":
			broken++
		case e.Action == "output" && e.Test == "":
			if line := strings.TrimSpace(e.Output); line != "PASS" && line != "FAIL" {
				fmt.Fprint(out, e.Output)
			}
		case e.Action == "output":
			output[name] = append(output[name], e.Output)
		case e.Test == "" && e.Action == "fail":
			broken++
		case e.Test == "":
		case e.Action == "pass":
			passed++
			delete(output, name)
		case e.Action == "fail":
			failed++
			fmt.Fprint(out, strings.Join(output[name], ""))
		case e.Action == "skip":
			skipped++
			used[e.Test] = true
			if excuses[e.Test] == "" {
				complaints = append(complaints, fmt.Sprintf("skipped: %s\n%s", name, strings.Join(output[name], "")))
			}
		}
	}
	for excuse := range excuses {
		if !used[excuse] {
			complaints = append(complaints, fmt.Sprintf("excused but not skipped any more: %s\n", excuse))
		}
	}
	slices.Sort(complaints)
	for _, c := range complaints {
		fmt.Fprint(out, c)
	}
	if err := lines.Err(); err != nil {
		fmt.Fprintln(out, "noskip:", err)
		broken++
	}
	fmt.Fprintf(out, "%d passed, %d failed, %d skipped\n", passed, failed, skipped)
	return passed > 0 && failed == 0 && broken == 0 && len(complaints) == 0
}
