package sshconfig

import (
	"errors"
	"strings"
)

const space = " \t\r"

// cutKeyword cuts a line into its keyword and the rest: blanks, or blanks and one "=", stand between them.
func cutKeyword(line string) (keyword, rest string) {
	line = strings.TrimRight(line, space+"\f\n")
	line = strings.TrimLeft(line, space)
	if line == "" || line[0] == '#' {
		return "", ""
	}
	if line[0] == '"' {
		word, after, ok := strings.Cut(line[1:], `"`)
		if !ok {
			return "", ""
		}
		keyword, rest = word, after
	} else {
		end := strings.IndexAny(line, space+"=")
		if end < 0 {
			return line, ""
		}
		keyword, rest = line[:end], line[end:]
	}
	rest = strings.TrimLeft(rest, space)
	if after, ok := strings.CutPrefix(rest, "="); ok {
		rest = strings.TrimLeft(after, space)
	}
	return keyword, rest
}

var errQuotes = errors.New("a quote is opened and not closed")

// splitArgs splits as a shell does: blanks end an argument outside of quotes, a backslash takes the meaning from a quote, a
// backslash or a blank, and "#" at the start of an argument begins a comment.
func splitArgs(s string) ([]string, error) {
	var args []string
	for i := 0; i < len(s); {
		switch s[i] {
		case ' ', '\t':
			i++
			continue
		case '#':
			return args, nil
		}
		var arg []byte
		quote := byte(0)
	word:
		for ; i < len(s); i++ {
			c := s[i]
			switch {
			case c == '\\' && i+1 < len(s) && (strings.IndexByte(`'"\`, s[i+1]) >= 0 || quote == 0 && s[i+1] == ' '):
				i++
				arg = append(arg, s[i])
			case quote == 0 && (c == ' ' || c == '\t'):
				break word
			case quote == 0 && (c == '"' || c == '\''):
				quote = c
			case quote != 0 && c == quote:
				quote = 0
			default:
				arg = append(arg, c)
			}
		}
		if quote != 0 {
			return nil, errQuotes
		}
		args = append(args, string(arg))
	}
	return args, nil
}
