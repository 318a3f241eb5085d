package sshconfig

import (
	"errors"
	"fmt"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A reader turns settings into values, and keeps the first error.
type reader struct {
	e             *evaluator
	tokens, proxy map[byte]string
	err           error
}

func (r *reader) keep(s setting, err error) {
	if err != nil && r.err == nil {
		r.err = s.failf("%s: %w", s.keyword, err)
	}
}

// word is one of the words, in lower case.
func (r *reader) word(keyword, otherwise string, words ...string) string {
	s, ok := r.e.one[keyword]
	if !ok {
		return otherwise
	}
	word := lower(s.args[0])
	if !slices.Contains(words, word) {
		r.keep(s, fmt.Errorf("%.40q is none of %s", s.args[0], strings.Join(words, ", ")))
		return otherwise
	}
	return word
}

func (r *reader) flag(keyword string, to *bool, otherwise bool) {
	yes := "no"
	if otherwise {
		yes = "yes"
	}
	word := r.word(keyword, yes, "yes", "no", "true", "false")
	*to = word == "yes" || word == "true"
}

func (r *reader) number(keyword string, to *int, otherwise, least int) {
	*to = otherwise
	if s, ok := r.e.one[keyword]; ok {
		n, err := strconv.ParseInt(s.args[0], 10, 32)
		if err != nil || int(n) < least {
			r.keep(s, fmt.Errorf("%.40q is no number from %d", s.args[0], least))
		}
		*to = int(n)
	}
}

func (r *reader) duration(keyword string, to *time.Duration) {
	if s, ok := r.e.one[keyword]; ok && s.args[0] != "none" {
		d, err := parseTime(s.args[0])
		r.keep(s, err)
		*to = d
	}
}

// parseTime reads the times of sshd_config(5), "TIME FORMATS": numbers with units that add up, seconds where there is none.
func parseTime(text string) (time.Duration, error) {
	total := int64(0)
	for s := text; s != ""; {
		digits := len(s) - len(strings.TrimLeft(s, "0123456789"))
		n, err := strconv.ParseInt(s[:digits], 10, 32)
		if err != nil {
			return 0, fmt.Errorf("%.40q is no time; write it like 90, 30s or 1m30s", text)
		}
		unit := int64(1)
		if s = s[digits:]; s != "" {
			switch s[0] {
			case 's', 'S':
			case 'm', 'M':
				unit = 60
			case 'h', 'H':
				unit = 3600
			case 'd', 'D':
				unit = 86400
			case 'w', 'W':
				unit = 7 * 86400
			default:
				return 0, fmt.Errorf("%.40q is no time; its units are s, m, h, d and w", text)
			}
			s = s[1:]
		}
		if total += n * unit; total > math.MaxInt32 {
			return 0, fmt.Errorf("%.40q is too long a time", text)
		}
	}
	if text == "" {
		return 0, errors.New("the time is empty")
	}
	return time.Duration(total) * time.Second, nil
}

// path puts the home, tokens and the environment in. What cannot be put in is noted, and the path is "" (ssh_config(5),
// ENVIRONMENT VARIABLES: the setting is ignored).
func (r *reader) path(s setting, text string) string {
	expanded, err := r.e.machine.tilde(text)
	if err == nil {
		expanded, err = expand(expanded, r.tokens, r.e.machine.Getenv)
	}
	if err != nil {
		r.e.note(place{file: s.file, line: s.line}, s.keyword, err.Error())
		return ""
	}
	return expanded
}

// agent is a socket: a path, the name of a variable after "$" that has it, or (IdentityAgent) SSH_AUTH_SOCK or none.
func (r *reader) agent(s setting, text string, words bool) string {
	if words {
		switch text {
		case "none":
			return "none"
		case "SSH_AUTH_SOCK":
			return ""
		}
	}
	if name, ok := strings.CutPrefix(text, "$"); ok && !strings.HasPrefix(name, "{") {
		value, _ := r.e.machine.Getenv(name)
		if value == "" {
			r.e.note(place{file: s.file, line: s.line}, s.keyword, "the environment has no "+name)
		}
		return value
	}
	return r.path(s, text)
}

// paths are those of a keyword whose lines add up, each once.
func (r *reader) paths(keyword string) []string {
	var list []string
	for _, s := range r.e.many[keyword] {
		if lower(s.args[0]) == "none" {
			continue
		}
		if p := r.path(s, s.args[0]); p != "" && !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// list is the paths of one line.
func (r *reader) list(keyword string, otherwise ...string) []string {
	s, ok := r.e.one[keyword]
	if !ok {
		return otherwise
	}
	var list []string
	for _, arg := range s.args {
		if lower(arg) == "none" {
			if len(s.args) > 1 {
				r.keep(s, errors.New("none stands alone"))
			}
			continue
		}
		if p := r.path(s, arg); p != "" {
			list = append(list, p)
		}
	}
	return list
}

// jumps are the destinations of ProxyJump.
func (r *reader) jumps(text string) ([]string, error) {
	text, err := expand(text, r.proxy, nil)
	if err != nil {
		return nil, err
	}
	list := strings.Split(text, ",")
	for _, jump := range list {
		if _, err := ParseDestination(jump); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func (r *reader) forwardsOf(keyword string, side Side) []Forward {
	var list []Forward
	for _, s := range r.e.many[keyword] {
		text, err := expand(strings.Join(s.args, ":"), nil, r.e.machine.Getenv)
		if err != nil {
			r.e.note(place{file: s.file, line: s.line}, s.keyword, err.Error())
			continue
		}
		f, err := ParseForward(text, side, r.e.machine.Service)
		if err == nil && len(s.args) == 1 && side != Dynamic && !f.Dynamic {
			err = errors.New("the second argument, where it leads, is missing")
		}
		for _, p := range []*string{&f.Listen.Path, &f.To.Path} {
			if err == nil {
				*p, err = expand(*p, r.tokens, nil)
			}
		}
		r.keep(s, err)
		if !slices.Contains(list, f) {
			list = append(list, f)
		}
	}
	return list
}

// Assemble is the list that a keyword for algorithms asks for: the text itself, or with "+" more after the defaults, with
// "-" those of the defaults that its patterns do not match, with "^" first. supported is all that there is; patterns stand
// for members of it, and names that are not in it are left out. The list may be empty: then nothing is left to agree on.
func Assemble(text string, defaults, supported []string) []string {
	if text == "" {
		return defaults
	}
	names := strings.Split(strings.TrimLeft(text, "+-^"), ",")
	var picked []string
	for _, name := range names {
		for _, s := range supported {
			if match, _ := path.Match(name, s); (name == s || match) && !slices.Contains(picked, s) {
				picked = append(picked, s)
			}
		}
	}
	without := func(list, out []string) []string {
		return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(out, s) })
	}
	switch text[0] {
	case '+':
		return append(slices.Clone(defaults), without(picked, defaults)...)
	case '-':
		return without(defaults, picked)
	case '^':
		return append(picked, without(defaults, picked)...)
	}
	return picked
}
