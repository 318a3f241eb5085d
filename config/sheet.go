package config

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A sheet is how one kind of table is written: which keys it has, what they set and how their values look.
type sheet struct {
	table string // the table that it stands in, "" when it is one itself
	name  string
	what  string // "forward", "node", "user", "SSH server"
	keys  []string
	field func(key string) any // a pointer to what a key sets, or nil for a key that is not known
	help  func(key string) string
}

// header is the header of the table.
func (s sheet) header() string {
	if s.table == "" {
		return "[" + s.name + "]"
	}
	return "[" + s.table + "." + quoteKey(s.name) + "]"
}

// mark says in a problem which table it is about.
func (s sheet) mark(one problem) problem {
	switch {
	case s.table == "forward":
		one.forward = s.name
	case s.table == "":
		one.table = s.header()
	case s.name != "":
		one.table = fmt.Sprintf("%s %q", s.what, s.name)
	}
	return one
}

// sheetOf is the sheet, with nothing behind it, for the keys below a header; ok is whether there is such a table.
func sheetOf(path []string) (s sheet, ok bool) {
	if len(path) == 1 {
		switch path[0] {
		case "sshd":
			return sshdSheet(new(sshdTable)), true
		case "oidc":
			return oidcSheet(new(oidcTable)), true
		case "acme":
			return acmeSheet(new(acmeTable)), true
		case "gateway":
			return gatewaySheet(new(gatewayTable)), true
		case "dmz":
			return dmzSheet(new(dmzTable)), true
		case "hub":
			return hubSheet(new(hubTable)), true
		case "agent":
			return agentSheet(new(agentTable)), true
		}
	}
	if len(path) != 2 {
		return sheet{}, false
	}
	switch path[0] {
	case "gateway":
		return portmapSheet(new(portmapTable)), path[1] == "portmap"
	case "forward":
		return forwardSheet(path[1], new(Spec)), true
	case "node":
		return nodeSheet(path[1], new(nodeTable)), true
	case "users":
		return userSheet(path[1], new(userTable)), true
	case "agents":
		return limitsSheet(path[1], new(limitsTable)), true
	}
	return sheet{}, false
}

func forwardSheet(name string, spec *Spec) sheet {
	return sheet{table: "forward", name: name, what: "forward", keys: keys(), field: spec.field, help: Help}
}

// told are the keys of one table with a problem that has been added, or about which one would only be noise.
type told map[string]bool

// fill sets what the keys of n say.
func (r *reader) fill(n *node, s sheet) told {
	bad := told(nil)
	tell := func(key string, one problem) {
		if bad == nil {
			bad = told{}
		}
		bad[key] = true
		r.add(s.mark(one))
	}
	for _, c := range n.children {
		target := s.field(c.name)
		if target == nil {
			meant, one := s.unknownKey(c)
			tell(meant, one)
			if meant == "" { // an unquoted name with a dot: [forward.NAME.MORE]
				for _, key := range []string{"listen", "to", "ssh", "hub", "password"} {
					bad[key] = true
				}
			}
		} else if msg, hint := set(target, c, s.help); msg != "" {
			tell(c.name, problem{at: c.at, msg: c.name + ": " + msg, hint: hint})
		}
	}
	return bad
}

// refuse adds what is wrong with the values of n, but for keys that have been told of.
func (r *reader) refuse(n *node, s sheet, bad told, err error) {
	for err := range each(err) {
		var field *forward.FieldError
		if errors.As(err, &field) && bad[field.Field] && field.Field != "" {
			continue
		}
		r.add(s.mark(problem{at: placeOf(n, field), msg: err.Error(), late: func() string { return hintOf(err, s.help) }, err: err}))
	}
}

// unknownKey is the problem with key c, and which known key was probably meant.
func (s sheet) unknownKey(c *node) (meant string, one problem) {
	one = problem{at: c.keyAt, msg: fmt.Sprintf("unknown key %s", quoteKey(c.name))}
	if s.table != "" && (c.shape == shapeTable || c.shape == shapeHeaders) {
		name := s.name + "." + c.name
		for len(c.children) == 1 && c.children[0].shape == shapeTable {
			c = c.children[0]
			name += "." + c.name
		}
		one.hint = fmt.Sprintf("a name with a dot stands in quotes: [%s.%q]", s.table, name)
		return "", one
	}
	if meant = suggest(c.name, s.keys); meant != "" {
		one.hint = fmt.Sprintf("did you mean %s? %s", meant, s.help(meant))
		return meant, one
	}
	one.hint = fmt.Sprintf("%s %s has the keys %s", article(s.what), s.what, strings.Join(s.keys, ", "))
	return c.name, one
}

func article(word string) string {
	if word == "SSH server" || word == "agent" {
		return "an"
	}
	return "a"
}

// notTable is the problem with n, which should have been a table.
func (s sheet) notTable(n *node) problem {
	one := s.mark(problem{at: n.keyAt, msg: fmt.Sprintf("%s %s is a table", article(s.what), s.what), hint: fmt.Sprintf("write %s and below it its keys", s.header())})
	switch {
	case n.shape == shapeHeaders:
		one.msg, one.hint = fmt.Sprintf("double brackets make a list, and %s %s is one table", article(s.what), s.what), "write "+s.header()
	case s.table != "" && s.field(n.name) != nil:
		one.forward, one.table = "", ""
		one.msg, one.hint = fmt.Sprintf("%s stands outside of any %s", n.name, s.what), fmt.Sprintf("write [%s.NAME] above it", s.table)
	}
	return one
}

// A checker gathers what is wrong with the values of one table.
type checker struct{ errs []error }

func (c *checker) check(field string, err error) {
	if err != nil {
		c.errs = append(c.errs, &forward.FieldError{Field: field, Err: err})
	}
}

func (c *checker) err() error { return errors.Join(c.errs...) }

// unset is a number that was not written, and none that can be; 0 may be a mistake.
const unset = math.MinInt32

// number is what was written, 0 for nothing.
func (c *checker) number(field string, value, most int) int {
	switch {
	case value == unset:
		return 0
	case value < 1 || value > most:
		c.check(field, fmt.Errorf("%d is not between 1 and %d", value, most))
	}
	return value
}

// files reads a list of files.
func (c *checker) files(field string, list Strings, home bool) []string {
	const most = 100
	files, err := parseList(list, "leave the key out for the usual ones", func(s string) (string, error) { return s, checkFile(s, home) })
	if err == nil && len(files) > most {
		err = fmt.Errorf("the list has %d files; %d is the most", len(files), most)
	}
	c.check(field, err)
	return files
}

// policy reads permit and deny.
func (c *checker) policy(permit, deny Strings) (p forward.Policy) {
	var err error
	p.Permit, err = parseRules(permit, "leave the key out to permit what is not denied")
	c.check("permit", err)
	p.Deny, err = parseRules(deny, "leave the key out to deny nothing")
	c.check("deny", err)
	return p
}

// maxRules bounds what is gone through for every session.
const maxRules = 1000

func parseRules(list Strings, none string) ([]forward.Rule, error) {
	if len(list) > maxRules {
		return nil, withHint{fmt.Errorf("the list has %d rules; %d is the most", len(list), maxRules), "neighbouring networks may be written as one, such as 10.0.0.0/8"}
	}
	return parseList(list, none, forward.ParseRule)
}

// checkFile holds the name of a file to what means the same from every directory. The file is not looked at.
func checkFile(path string, home bool) error {
	const most = 4095 // PATH_MAX counts a closing zero
	switch {
	case path == "":
		return errors.New("the name of the file is empty")
	case len(path) > most:
		return fmt.Errorf("the name of the file is %d bytes long; %d is the most", len(path), most)
	case hasControl(path):
		return fmt.Errorf("%q has a character that no file has in its name", path)
	case strings.HasPrefix(path, "/"), home && strings.HasPrefix(path, "~/"):
		return nil
	}
	hint := "the daemon works in a directory of its own; write a path from /"
	if home {
		hint += ", or from ~/, the home of the user that fairlead runs as"
	}
	return withHint{fmt.Errorf("%q is not an absolute path", path), hint}
}

func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// checkReference holds the name of a node or user to what one can be called.
func checkReference(what, name string) error {
	if name == "" {
		return fmt.Errorf("the name of the %s is empty", what)
	}
	return forward.CheckName(name)
}
