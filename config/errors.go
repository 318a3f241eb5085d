package config

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// An Error is one thing in a configuration that cannot be.
type Error struct {
	File    string `json:"file"`
	Line    int    `json:"line,omitempty"`    // from 1; 0 when the error is about the whole file
	Column  int    `json:"column,omitempty"`  // in bytes, from 1
	Forward string `json:"forward,omitempty"` // name, or "" when it is about no forward
	Msg     string `json:"msg"`               // what is wrong
	Hint    string `json:"hint,omitempty"`    // what would be right

	err error
}

// Error is one line without the hint: fairlead.toml:12:10: forward "web": what is wrong.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(cmp.Or(e.File, "configuration"))
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	if e.Forward != "" {
		fmt.Fprintf(&b, ": forward %q", e.Forward)
	}
	return b.String() + ": " + e.Msg
}

// Unwrap is the error below: a *forward.FieldError, a *forward.TieError or what the file system said, or nil.
func (e *Error) Unwrap() error { return e.err }

// maxErrors is how many problems one reading reports. A file with more of them has one cause, not many.
const maxErrors = 20

// Errors is everything that is wrong with a configuration, in the order of the file. After 20 the last one says how many
// more there are.
type Errors []*Error

func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, err := range e {
		lines[i] = err.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap makes the parts visible to errors.Is and errors.As.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, err := range e {
		errs[i] = err
	}
	return errs
}

// A problem is an Error before its place is counted out in lines: at is the offset of a byte in the file.
type problem struct {
	at      int
	forward string
	table   string // what it is about when that is no forward, such as `node "bastion"`
	msg     string
	hint    string
	late    func() string // the hint, when hint is ""
	err     error
}

// problems gathers what is wrong with one file. Lines are counted only when there is something to report.
type problems struct {
	file  string
	data  []byte
	list  []problem
	lines []int // offset of the first byte of every line
}

func (p *problems) add(one problem) { p.list = append(p.list, one) }

// place is the line and column of a byte, both from 1.
func (p *problems) place(at int) (line, column int) {
	if p.lines == nil {
		p.lines = append(p.lines, 0)
		for i := 0; ; {
			n := bytes.IndexByte(p.data[i:], '\n')
			if n < 0 {
				break
			}
			i += n + 1
			p.lines = append(p.lines, i)
		}
	}
	next, _ := slices.BinarySearch(p.lines, at+1)
	return next, at - p.lines[next-1] + 1
}

// where is file:line of a byte, for messages that speak of a second place.
func (p *problems) where(at int) string {
	line, _ := p.place(at)
	return fmt.Sprintf("%s:%d", cmp.Or(p.file, "configuration"), line)
}

func (p *problems) errors() Errors {
	slices.SortStableFunc(p.list, func(a, b problem) int { return cmp.Compare(a.at, b.at) })
	var errs Errors
	for i, one := range p.list {
		if one.table != "" {
			one.msg = clip(one.table, 80) + ": " + one.msg
		}
		if i == maxErrors {
			return append(errs, &Error{File: p.file, Msg: fmt.Sprintf("and %d more", len(p.list)-maxErrors)})
		}
		if one.hint == "" && one.late != nil {
			one.hint = one.late()
		}
		e := &Error{File: p.file, Forward: clip(one.forward, 80), Msg: clip(one.msg, 500), Hint: clip(one.hint, 500), err: one.err}
		e.Line, e.Column = p.place(one.at)
		errs = append(errs, e)
	}
	return errs
}

// clip shortens s to n bytes, so that a value of a megabyte does not become an error of a megabyte.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
