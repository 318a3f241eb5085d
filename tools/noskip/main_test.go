package main

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	const (
		pass = `{"Action":"output","Package":"p","Test":"TestA","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
`
		skip = `{"Action":"output","Package":"p","Test":"TestB","Output":"needs root\n"}
{"Action":"skip","Package":"p","Test":"TestB"}
`
		fail = `{"Action":"output","Package":"p","Test":"TestC","Output":"want 1\n"}
{"Action":"fail","Package":"p","Test":"TestC"}
`
	)
	for _, c := range []struct {
		name, in string
		excuses  map[string]string
		ok       bool
		says     string
	}{
		{"all pass", pass, nil, true, "1 passed, 0 failed, 0 skipped"},
		{"nothing ran", "", nil, false, "0 passed"},
		{"a skip", pass + skip, nil, false, "skipped: p TestB\nneeds root"},
		{"an excused skip", pass + skip, map[string]string{"TestB": "for a reason"}, true, "1 skipped"},
		{"an excuse without a reason", pass + skip, map[string]string{"TestB": ""}, false, "skipped: p TestB"},
		{"a stale excuse", pass, map[string]string{"TestB": "for a reason"}, false, "not skipped any more: TestB"},
		{"a failure", pass + fail, nil, false, "want 1"},
		{"a broken build", pass + `{"ImportPath":"q","Action":"build-output","Output":"q.go:1: oops\n"}` + "\n" + `{"ImportPath":"q","Action":"build-fail"}`, nil, false, "oops"},
		{"a package that panics", pass + `{"Action":"fail","Package":"p"}`, nil, false, "1 passed"},
		{"foreign words", pass + "ld: no\n", nil, true, "ld: no"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			if ok := judge(strings.NewReader(c.in), &out, c.excuses); ok != c.ok {
				t.Errorf("judge = %v, want %v\n%s", ok, c.ok, &out)
			}
			if !strings.Contains(out.String(), c.says) {
				t.Errorf("judge printed %q, want %q in it", &out, c.says)
			}
			if strings.Contains(out.String(), "noise") {
				t.Error("judge printed what a passing test said")
			}
		})
	}
}
