package sshconfig

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// include reads the files that one Include line names. What a block in them says about Host and Match ends with the file.
func (e *evaluator) include(p place, args []string, active bool) error {
	if len(args) == 0 {
		return p.fail("Include", errNoArgument)
	}
	for _, arg := range args {
		if arg == "" {
			return p.fail("Include", errNoArgument)
		}
		pattern, err := e.includePath(p, arg)
		if err != nil {
			if !active {
				continue
			}
			return p.fail("Include", err)
		}
		files, err := e.machine.Glob(pattern)
		if err != nil {
			return p.fail("Include "+pattern, err)
		}
		for _, file := range files {
			q := place{file: file, user: p.user, depth: p.depth + 1, never: p.never || !active}
			if err := e.read(q, active, true); err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
	}
	return nil
}

// includePath anchors a path of Include.
func (e *evaluator) includePath(p place, arg string) (string, error) {
	if strings.Contains(arg, "${") { // newer than OpenSSH 9.8
		expanded, err := expand(arg, nil, e.machine.Getenv)
		if err != nil {
			return "", err
		}
		arg = expanded
	}
	switch {
	case strings.HasPrefix(arg, "~"):
		if !p.user {
			return "", fmt.Errorf("%q: a file of the system cannot include one of a user", arg)
		}
		return e.machine.tilde(arg)
	case filepath.IsAbs(arg):
		return arg, nil
	case p.user:
		return filepath.Join(e.machine.sshDir(), arg), nil
	}
	return filepath.Join(systemDir, arg), nil
}
