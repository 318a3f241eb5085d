package main

import (
	"fmt"
	"os"
	"slices"
)

// A harness lets a program use what is made for tests (netlab.TB): it keeps the cleanups and turns a failure into an error.
type harness struct {
	cleanups []func()
	broken   bool
}

// stop is what Fatalf panics with, since it must not return to its caller.
type stop struct{ error }

func (h *harness) Helper()                 {}
func (h *harness) Cleanup(fn func())       { h.cleanups = append(h.cleanups, fn) }
func (h *harness) Failed() bool            { return h.broken }
func (h *harness) Logf(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }

func (h *harness) Fatalf(format string, args ...any) {
	h.broken = true
	panic(stop{fmt.Errorf(format, args...)})
}

func (h *harness) Skipf(format string, args ...any) { h.Fatalf(format, args...) }

// scope runs fn with a harness of its own, then the cleanups, the last first. A failure becomes the error.
func scope(fn func(h *harness) error) (err error) {
	h := &harness{}
	defer func() {
		if r := recover(); r != nil {
			s, ours := r.(stop)
			if !ours {
				h.clean()
				panic(r)
			}
			err = s.error
		}
		h.clean()
	}()
	return fn(h)
}

func (h *harness) clean() {
	for _, fn := range slices.Backward(h.cleanups) {
		fn()
	}
	h.cleanups = nil
}
