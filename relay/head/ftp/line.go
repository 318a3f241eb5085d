package ftp

import (
	"bytes"
	"net"
)

// A reader takes lines out of a connection. A line ends with LF, as servers take it; RFC 959 has CR LF.
type reader struct {
	conn  net.Conn
	raw   []byte // read and not taken
	taken int    // bytes of raw that were
}

// line is the next line with its end. One that is longer than maxLine comes in pieces, all of which but the last have no end. It
// is valid until the next call. With an error there may be a last line without an end.
func (r *reader) line() ([]byte, error) {
	r.raw = append(r.raw[:0], r.raw[r.taken:]...)
	r.taken = 0
	for {
		if i := bytes.IndexByte(r.raw, '\n'); i >= 0 {
			r.taken = i + 1
			return r.raw[:r.taken], nil
		}
		if len(r.raw) >= maxLine {
			r.taken = len(r.raw)
			return r.raw, nil
		}
		if err := r.fill(); err != nil {
			r.taken = len(r.raw)
			return r.raw, err
		}
	}
}

// peek waits for the first byte.
func (r *reader) peek() (byte, error) {
	for len(r.raw) == 0 {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	return r.raw[0], nil
}

func (r *reader) fill() error {
	if cap(r.raw) < maxLine {
		r.raw = append(make([]byte, 0, maxLine), r.raw...)
	}
	n, err := r.conn.Read(r.raw[len(r.raw):maxLine])
	r.raw = r.raw[:len(r.raw)+n]
	if n > 0 {
		return nil // the error comes again
	}
	return err
}

// rest is what was read and not taken, for whoever reads next.
func (r *reader) rest() []byte { return bytes.Clone(r.raw[r.taken:]) }

// Telnet commands (RFC 854), which clients send ahead of ABOR (RFC 959, section 3.1 and appendix).
const (
	telnetIAC  = 0xff
	telnetWill = 0xfb // this and the next three have an option behind them
	telnetLow  = 0xf0 // the lowest command
)

// withoutTelnet is line without Telnet commands, in place. 255 twice is the byte itself, and stays as it is: who sent it
// that way means a server that reads it that way. So does 255 before a byte that is no command; at the beginning it is
// what is left of a command whose other half came as urgent data, and goes.
func withoutTelnet(line []byte) []byte {
	if bytes.IndexByte(line, telnetIAC) < 0 {
		return line
	}
	out := line[:0]
	for i := 0; i < len(line); i++ {
		switch {
		case line[i] != telnetIAC || i+1 == len(line):
			out = append(out, line[i])
		case line[i+1] == telnetIAC:
			out = append(out, telnetIAC, telnetIAC)
			i++
		case line[i+1] >= telnetWill:
			i += 2
		case line[i+1] >= telnetLow:
			i++
		case len(out) > 0:
			out = append(out, line[i])
		}
	}
	return out
}
