package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/fairlead-net/fairlead/config"
)

// The exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// A usageError is a command line that cannot be: exit code 2.
type usageError struct {
	err  error
	hint string
}

func (e *usageError) Error() string  { return e.err.Error() }
func (e *usageError) Unwrap() error  { return e.err }
func (e *usageError) Advice() string { return e.hint }

func usagef(hint, format string, args ...any) error {
	return &usageError{err: fmt.Errorf(format, args...), hint: hint}
}

// An advisedError carries what to do about an error to the end of the program.
type advisedError struct {
	err  error
	hint string
}

func (e *advisedError) Error() string  { return e.err.Error() }
func (e *advisedError) Unwrap() error  { return e.err }
func (e *advisedError) Advice() string { return e.hint }

func advise(err error, hint string) error { return &advisedError{err: err, hint: hint} }

// errSaid ends the program with exit code 1 when everything has been said already.
var errSaid = errors.New("said already")

// An exitError ends the program with a code of its own; without err everything has been said already.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return errSaid.Error()
	}
	return e.err.Error()
}

func (e *exitError) Unwrap() error {
	if e.err == nil {
		return errSaid
	}
	return e.err
}

// report prints err as the program speaks, and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitDone
	}
	var problems config.Errors
	var advised interface{ Advice() string }
	switch {
	case errors.Is(err, errSaid):
	case errors.As(err, &problems):
		for _, p := range problems {
			say(w, p.Error(), p.Hint)
		}
	default:
		hint := ""
		if errors.As(err, &advised) {
			hint = advised.Advice()
		}
		say(w, err.Error(), hint)
	}
	var exit *exitError
	if errors.As(err, &exit) {
		return exit.code
	}
	if errors.As(err, new(*usageError)) {
		return exitUsage
	}
	return exitFailed
}

// say prints each line of what went wrong, then what to do.
func say(w io.Writer, wrong, hint string) {
	for line := range strings.Lines(wrong) {
		fmt.Fprintf(w, "fairlead: %s\n", strings.TrimRight(line, "\n"))
	}
	if hint != "" {
		fmt.Fprintf(w, "hint: %s\n", hint)
	}
}
