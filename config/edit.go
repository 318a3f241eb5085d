package config

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/fairlead-net/fairlead/forward"
)

// Why a user cannot be written into a configuration, or taken out. Match them with errors.Is.
var (
	ErrUserThere  = errors.New("there is a user of this name already")
	ErrUserAbsent = errors.New("there is no user of this name")
	ErrByHand     = errors.New("the user is written in a way that only an editor can change") // as a dotted key or an inline table
)

// UserLines are the lines that declare a user.
func UserLines(name string, hash forward.PasswordHash) string {
	return fmt.Sprintf("[users.%s]\npassword = %q\n", quoteKey(name), hash.Reveal())
}

// AddUser is the text of a configuration with one more user, whose name is none yet. File is the name that errors give it. What
// it comes to is a configuration; when it is none, the error is Errors.
func AddUser(file string, data []byte, name string, hash forward.PasswordHash) ([]byte, error) {
	e, err := edit(file, data)
	switch {
	case err != nil:
		return nil, err
	case e.user(name) != nil:
		return nil, ErrUserThere
	}
	text := slices.Clone(e.data)
	if len(text) > 0 {
		if text[len(text)-1] != '\n' {
			text = append(text, e.newline()...)
		}
		text = append(text, e.newline()...)
	}
	lines := bytes.ReplaceAll([]byte(UserLines(name, hash)), []byte("\n"), []byte(e.newline()))
	return e.done(append(text, lines...), name, hash)
}

// SetPassword is the text of a configuration in which a user who is there has another password.
func SetPassword(file string, data []byte, name string, hash forward.PasswordHash) ([]byte, error) {
	e, err := edit(file, data)
	if err != nil {
		return nil, err
	}
	user := e.user(name)
	if user == nil {
		return nil, ErrUserAbsent
	}
	old := user.child([]byte("password"))
	if old == nil || old.shape != shapeScalar || old.kind != unstable.String {
		return nil, ErrByHand
	}
	length := quoted(e.data[old.at:])
	if length == 0 {
		return nil, ErrByHand
	}
	text := slices.Concat(e.data[:old.at], fmt.Appendf(nil, "%q", hash.Reveal()), e.data[old.at+length:])
	return e.done(text, name, hash)
}

// RemoveUser is the text of a configuration without a user who is there. Comments above the user's table stay.
func RemoveUser(file string, data []byte, name string) ([]byte, error) {
	e, err := edit(file, data)
	if err != nil {
		return nil, err
	}
	user := e.user(name)
	switch {
	case user == nil:
		return nil, ErrUserAbsent
	case user.shape != shapeTable || !user.explicit:
		return nil, ErrByHand
	}
	start := bytes.LastIndexByte(e.data[:user.at], '\n') + 1
	end := len(e.data)
	for _, at := range headers(e.root) {
		if at > user.at {
			end = min(end, bytes.LastIndexByte(e.data[:at], '\n')+1)
		}
	}
	// What stands right above the next table is about that one; the empty lines of this one go with it.
	for end > start {
		line := e.data[bytes.LastIndexByte(e.data[:end-1], '\n')+1 : end]
		if trimmed := bytes.TrimSpace(line); len(trimmed) > 0 && trimmed[0] != '#' {
			break
		}
		end -= len(line)
	}
	rest := e.data[end:]
	if blank := bytes.TrimLeft(rest, "\r\n"); start == 0 || bytes.HasSuffix(e.data[:start], []byte("\n\n")) || bytes.HasSuffix(e.data[:start], []byte("\n\r\n")) {
		rest = blank
	}
	return e.done(slices.Concat(e.data[:start], rest), name, "")
}

// An editor changes the text of a configuration and leaves what it does not change as it is written.
type editor struct {
	file string
	mark []byte // a byte order mark
	data []byte
	root *node
}

// edit reads the text as far as its syntax: what else is wrong may be what the change sets right.
func edit(file string, data []byte) (*editor, error) {
	if len(data) > MaxSize {
		return nil, Errors{fileError(file, errTooLarge)}
	}
	e := &editor{file: file}
	e.mark = data[:len(data)-len(bytes.TrimPrefix(data, []byte("\ufeff")))]
	e.data = data[len(e.mark):]
	p := problems{file: file, data: e.data}
	if p.checkText() {
		e.root = parseTree(e.data, &p)
	}
	if len(p.list) > 0 {
		return nil, p.errors()
	}
	return e, nil
}

func (e *editor) user(name string) *node {
	if users := e.root.child([]byte("users")); users != nil && users.shape.isTable() {
		return users.child([]byte(name))
	}
	return nil
}

func (e *editor) newline() string {
	if bytes.Contains(e.data, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// done is the text as it goes into the file, once it is known to say what was meant: hash is "" for a user who is gone.
func (e *editor) done(text []byte, name string, hash forward.PasswordHash) ([]byte, error) {
	cfg, err := Parse(e.file, text)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(cfg.Settings.Users, func(u forward.User) bool { return u.Name == name })
	if there := at >= 0; there != (hash != "") || there && cfg.Settings.Users[at].Password != hash {
		return nil, ErrByHand
	}
	return slices.Concat(e.mark, text), nil
}

// headers are the places of all headers below n.
func headers(n *node) (list []int) {
	for _, c := range n.children {
		switch c.shape {
		case shapeHeaders:
			for _, item := range c.children {
				list = append(append(list, item.at), headers(item)...)
			}
		case shapeTable:
			if c.explicit {
				list = append(list, c.at)
			}
			list = append(list, headers(c)...)
		}
	}
	return list
}

// quoted is how long the one-line string is that s begins with, or 0.
func quoted(s []byte) int {
	if len(s) < 2 || s[0] != '"' && s[0] != '\'' || bytes.HasPrefix(s, []byte(`"""`)) || bytes.HasPrefix(s, []byte("'''")) {
		return 0
	}
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == s[0]:
			return i + 1
		case s[i] == '\\' && s[0] == '"':
			i++
		}
	}
	return 0
}
