package main

// An escaper finds escapes in what is typed: the escape character at the start of a line and one character more (ssh(1),
// ESCAPE CHARACTERS).
type escaper struct {
	char    byte // 0: there are no escapes
	inLine  bool // something was typed since the last end of a line
	pending bool // the escape character was typed, and what follows decides
}

// What an escape asks for.
const (
	escapeNone    = byte(0)
	escapeEnd     = byte('.')
	escapeSuspend = byte(26) // Ctrl-Z
	escapeHelp    = byte('?')
)

// feed returns what of in goes to the server, up to the first escape, which it returns with what was typed after it.
func (e *escaper) feed(in []byte) (out []byte, escape byte, rest []byte) {
	if e.char == 0 {
		return in, escapeNone, nil
	}
	out = make([]byte, 0, len(in)+1)
	for i, c := range in {
		if e.pending {
			e.pending = false
			switch c {
			case escapeEnd, escapeSuspend, escapeHelp:
				return out, c, in[i+1:]
			case e.char:
			default:
				out = append(out, e.char)
			}
		} else if c == e.char && !e.inLine {
			e.pending = true
			continue
		}
		e.inLine = c != '\r' && c != '\n'
		out = append(out, c)
	}
	return out, escapeNone, nil
}
