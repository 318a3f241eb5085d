package main

import (
	"bytes"
	"testing"
)

func TestEscapes(t *testing.T) {
	for _, c := range []struct {
		typed  []string
		out    string
		escape byte
	}{
		{[]string{"ls\r"}, "ls\r", escapeNone},
		{[]string{"~."}, "", escapeEnd},
		{[]string{"ls\r", "~", "."}, "ls\r", escapeEnd},
		{[]string{"a~.\r"}, "a~.\r", escapeNone},
		{[]string{"~~.\r"}, "~.\r", escapeNone},
		{[]string{"~a~."}, "~a~.", escapeNone},
		{[]string{"\r~\r~."}, "\r~\r", escapeEnd},
		{[]string{"x\n~?"}, "x\n", escapeHelp},
		{[]string{"~\x1a"}, "", escapeSuspend},
	} {
		e := escaper{char: '~'}
		var got bytes.Buffer
		escape := escapeNone
		for _, typed := range c.typed {
			out, found, _ := e.feed([]byte(typed))
			got.Write(out)
			if found != escapeNone {
				escape = found
			}
		}
		if got.String() != c.out || escape != c.escape {
			t.Errorf("%q: %q and %q, want %q and %q", c.typed, &got, escape, c.out, c.escape)
		}
	}
	none := escaper{}
	if out, escape, _ := none.feed([]byte("~.")); string(out) != "~." || escape != escapeNone {
		t.Errorf("without escapes: %q, %q", out, escape)
	}
}

func FuzzEscapes(f *testing.F) {
	f.Add([]byte("ls\r~~x~.\r~.rest"), byte('~'))
	f.Fuzz(func(t *testing.T, typed []byte, char byte) {
		e := escaper{char: char}
		out, escape, rest := e.feed(typed)
		if len(out)+len(rest) > len(typed)+1 || escape == escapeNone && len(rest) > 0 {
			t.Errorf("%q became %q, %q and %q", typed, out, escape, rest)
		}
	})
}
