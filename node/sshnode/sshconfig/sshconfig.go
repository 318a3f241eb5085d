// Package sshconfig reads ssh_config(5): what OpenSSH's configuration files and options say about one host, Host, Match and
// Include evaluated as OpenSSH does.
//
// It reads text and returns facts. It opens no connection, and what it wants from the machine it asks of a Machine, which
// tests replace. What a keyword leads to belongs to package sshnode and the command line. A file may say more than we do: a
// keyword that is not honoured is noted and changes nothing.
package sshconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// LookupOptions are what goes before the files, and where they are; the zero value is the user's and the system's files.
type LookupOptions struct {
	User      string   // the user, as -l or user@ says it; "" is none said
	Overrides []string // "Keyword=value" or "Keyword value", as -o takes them; the first wins
	// Config is the one file that is read; "" is ~/.ssh/config and then /etc/ssh/ssh_config, "none" is none.
	Config string
	// Exec runs the command of a Match exec in the user's shell and reports whether it exited with 0. Without one such a
	// block does not match, and is noted.
	Exec    func(command string) bool
	Machine *Machine // nil: this one
}

// Ignored is a line, or a part of one, that changed nothing.
type Ignored struct {
	File    string
	Line    int
	Keyword string // as it was written
	Why     string
}

func (i Ignored) String() string {
	if i.Line == 0 {
		return fmt.Sprintf("%s: %s is ignored: %s", i.File, i.Keyword, i.Why)
	}
	return fmt.Sprintf("%s:%d: %s is ignored: %s", i.File, i.Line, i.Keyword, i.Why)
}

// An Error is a line that cannot be what was meant.
type Error struct {
	File string // "the command line" for an override
	Line int
	Err  error
}

func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %v", e.File, e.Err)
	}
	return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err)
}

func (e *Error) Unwrap() error { return e.Err }

// What a file may cost: an Include that includes itself in many ways would grow without end.
const (
	maxFile  = 1 << 20 // bytes of one file
	maxTotal = 8 << 20 // bytes of all files that are read for one lookup, counted as often as they are read
	maxReads = 1024    // files read for one lookup
	maxDepth = 16      // of Include (READCONF_MAX_DEPTH in OpenSSH)
)

const commandLine = "the command line"

// An evaluator collects what the lines say that hold for one host.
type evaluator struct {
	LookupOptions
	machine  *Machine
	original string // the host as it was asked for
	host     string // what Host lines are compared with
	final    bool   // the second pass, in which Match final holds
	again    bool   // a second pass is wanted

	one           map[string]setting   // the first value of each keyword
	many          map[string][]setting // each value of keywords that add up
	env           []string             // SendEnv
	ignoreUnknown string
	ignored       []Ignored
	reads, bytes  int
}

// A setting is the arguments of a keyword and where they stand.
type setting struct {
	args    []string
	file    string
	line    int
	user    bool // in the user's files rather than the system's
	keyword string
}

func (s setting) fail(err error) error { return &Error{s.file, s.line, err} }

func (s setting) failf(format string, args ...any) error { return s.fail(fmt.Errorf(format, args...)) }

// Lookup says what holds for host, which may be an alias. The files that it names by default need not exist; the one that
// Config names must.
func Lookup(host string, o LookupOptions) (*Host, []Ignored, error) {
	e := &evaluator{
		LookupOptions: o, machine: o.Machine, original: host, host: host, one: map[string]setting{}, many: map[string][]setting{},
	}
	if e.machine == nil {
		e.machine = ThisMachine()
	}
	if err := checkHost(host); err != nil {
		return nil, nil, err
	}
	if o.User != "" {
		e.one["user"] = setting{args: []string{o.User}, file: commandLine, keyword: "User"}
	}
	top := place{file: commandLine, user: true}
	for _, line := range o.Overrides {
		active := true
		if err := e.line(top, strings.TrimLeft(line, space), &active); err != nil {
			return nil, nil, err
		}
	}
	if err := e.files(); err != nil {
		return nil, nil, err
	}
	name, err := e.hostname()
	if err != nil {
		return nil, nil, err
	}
	if e.again || e.canonicalizes() {
		e.host, e.final = name, true
		if err := e.files(); err != nil {
			return nil, nil, err
		}
	}
	h, err := e.finish(name)
	if err != nil {
		return nil, nil, err
	}
	return h, compact(e.ignored), nil
}

func compact(list []Ignored) []Ignored {
	seen := map[Ignored]bool{}
	return slices.DeleteFunc(list, func(i Ignored) bool {
		double := seen[i]
		seen[i] = true
		return double
	})
}

// checkHost refuses what could be taken for something else where a name is put into a command (CVE-2023-51385).
func checkHost(host string) error {
	if host == "" {
		return errors.New("the host has no name")
	}
	if len(host) > 1025 || host[0] == '-' || strings.ContainsAny(host, "'`\"$\\;&<>|(){} \t\r\n\x00") {
		return fmt.Errorf("%.80q is no host name", host)
	}
	return nil
}

// hostname is the name that is connected to, after Hostname.
func (e *evaluator) hostname() (string, error) {
	name := e.original
	if s, ok := e.one["hostname"]; ok {
		expanded, err := expand(s.args[0], map[byte]string{'h': e.original}, nil)
		if err != nil {
			return "", s.failf("Hostname: %w", err)
		}
		name = expanded
		if err := checkHost(name); err != nil {
			return "", s.fail(err)
		}
	}
	if _, err := netip.ParseAddr(name); err != nil {
		name = strings.ToLower(name)
	}
	return name, nil
}

// canonicalizes reports whether CanonicalizeHostname asks for a second pass.
func (e *evaluator) canonicalizes() bool {
	s, ok := e.one["canonicalizehostname"]
	if !ok || slices.Contains([]string{"no", "false"}, s.args[0]) {
		return false
	}
	e.note(place{file: s.file, line: s.line}, s.keyword, "names are left to the resolver; the files are read a second time for Match canonical")
	return true
}

func (e *evaluator) note(p place, keyword, why string) {
	e.ignored = append(e.ignored, Ignored{File: p.file, Line: p.line, Keyword: keyword, Why: why})
}

// files reads the files in their order.
func (e *evaluator) files() error {
	switch e.Config {
	case "none":
		return nil
	case "":
	default:
		return e.read(place{file: e.Config, user: true}, true, false)
	}
	if err := e.read(place{file: e.machine.userFile(), user: true}, true, true); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if err := e.read(place{file: e.machine.systemFile()}, true, false); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// A place is where a line stands.
type place struct {
	file  string
	line  int
	user  bool // a file of the user's, or included by one
	depth int  // of Include
	never bool // included by a block that does not hold
}

func (p place) fail(keyword string, err error) error {
	return &Error{p.file, p.line, fmt.Errorf("%s: %w", keyword, err)}
}

// read reads one file. strict is whether others may not be able to write it.
func (e *evaluator) read(p place, active, strict bool) error {
	if p.depth > maxDepth {
		return fmt.Errorf("%s: Include goes deeper than %d files; does one include itself?", p.file, maxDepth)
	}
	text, err := e.machine.ReadFile(p.file, strict)
	if err != nil {
		return fmt.Errorf("ssh configuration: %w", err)
	}
	e.reads++
	e.bytes += len(text)
	if len(text) > maxFile || e.bytes > maxTotal || e.reads > maxReads {
		return fmt.Errorf("%s: the configuration is too large (%d bytes in %d files so far)", p.file, e.bytes, e.reads)
	}
	active = active && !p.never
	for line := range strings.SplitSeq(string(text), "\n") {
		p.line++
		if err := e.line(p, line, &active); err != nil {
			return err
		}
	}
	return nil
}
