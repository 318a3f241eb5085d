package sshconfig

import (
	"errors"
	"fmt"
	"strings"
)

// A Forward is a port forwarding as -L, -R and -D and the keywords of the same meaning spell it (ssh(1)).
type Forward struct {
	Listen  End
	To      End  // zero with Dynamic
	Dynamic bool // a SOCKS proxy: each client says where it goes
}

// An End is one side of a Forward: a host and a port, or a unix socket.
type End struct {
	// Host is as it was written; of a listener it is the bind address, where "" and "*" are every address if Bound.
	Host  string
	Bound bool // a bind address was written, even if it is empty
	Port  uint16
	Path  string // of a unix socket; then nothing else is set
}

// String is e as OpenSSH would write it.
func (e End) String() string {
	switch {
	case e.Path != "":
		return e.Path
	case !e.Bound:
		return fmt.Sprint(e.Port)
	case strings.Contains(e.Host, ":"):
		return fmt.Sprintf("[%s]:%d", e.Host, e.Port)
	}
	return fmt.Sprintf("%s:%d", e.Host, e.Port)
}

func (f Forward) String() string {
	if f.Dynamic {
		return f.Listen.String()
	}
	return f.Listen.String() + ":" + f.To.String()
}

// A Side is where a Forward listens and what it may be.
type Side uint8

// The sides.
const (
	Local   Side = iota // -L
	Remote              // -R, which is dynamic when it says no target
	Dynamic             // -D, and the target of -W
)

// What a name or a path may be long.
const (
	maxHostName = 1024 // NI_MAXHOST less the closing zero
	maxSunPath  = 107  // sockaddr_un less the closing zero
)

// ParseForward reads one forwarding. service finds the port of a service by its name; nil knows none.
//
//	-L and -R: [bind_address:]port:host:hostport  [bind_address:]port:socket  socket:host:hostport  socket:socket
//	-R and -D: [bind_address:]port  socket
//
// A field with a "/" is a socket, a field in brackets is taken as it is, and a backslash takes the meaning from a colon.
func ParseForward(s string, side Side, service func(string) (uint16, bool)) (Forward, error) {
	f, err := parseForward(s, side, (&Machine{Service: service}).port)
	if err != nil {
		return Forward{}, fmt.Errorf("%.200q is no forwarding: %w", s, err)
	}
	return f, nil
}

var errShape = errors.New("write it like [bind_address:]port:host:hostport, with sockets as /path, and IPv6 addresses in brackets")

func parseForward(s string, side Side, port func(string) (uint16, error)) (f Forward, err error) {
	fields, err := fieldsOf(strings.TrimLeft(s, " \t\r\n\v\f"))
	if err != nil {
		return f, err
	}
	// Where the target starts tells the shape; the last field is one on its own exactly when it is a path, or nothing is
	// asked for but a listener.
	n := len(fields)
	listeners := n
	switch {
	case side == Dynamic || side == Remote && (n == 1 || n == 2 && !fields[1].path):
		f.Dynamic = true
		if n > 2 || n == 2 && (fields[0].path || fields[1].path) {
			return f, errors.New("a proxy has [bind_address:]port alone")
		}
	case n >= 2 && fields[n-1].path:
		listeners = n - 1
		f.To.Path = fields[n-1].text
	case n >= 3:
		listeners = n - 2
		f.To.Host, f.To.Bound = fields[n-2].text, true
		if f.To.Port, err = port(fields[n-1].text); err != nil {
			return f, err
		}
		if f.To.Port == 0 {
			return f, errors.New("nothing can be reached at port 0")
		}
	default:
		return f, errShape
	}
	if f.Listen, err = listenEnd(fields[:listeners], port); err != nil {
		return f, err
	}
	if side != Remote && f.Listen.Path == "" && f.Listen.Port == 0 {
		return f, errors.New("port 0 can be asked of the far end alone (-R)")
	}
	for _, end := range []End{f.Listen, f.To} {
		if len(end.Path) > maxSunPath || len(end.Host) > maxHostName {
			return f, errors.New("a path or a name is too long")
		}
	}
	return f, nil
}

func listenEnd(fields []field, port func(string) (uint16, error)) (e End, err error) {
	switch {
	case len(fields) == 1 && fields[0].path:
		return End{Path: fields[0].text}, nil
	case len(fields) == 2 && !fields[0].path && !fields[1].path:
		e.Host, e.Bound = fields[0].text, true
	case len(fields) != 1:
		return e, errShape
	}
	e.Port, err = port(fields[len(fields)-1].text)
	return e, err
}

// A field is what stands between two colons.
type field struct {
	text string
	path bool // it has a "/"
}

// fieldsOf cuts at colons, at most into four.
func fieldsOf(s string) ([]field, error) {
	var list []field
	for s != "" {
		if len(list) == 4 {
			return nil, errShape
		}
		if s[0] == '[' {
			text, after, ok := strings.Cut(s[1:], "]")
			if !ok || after != "" && after[0] != ':' {
				return nil, errors.New("a bracket is opened and not closed at the end of its field")
			}
			list = append(list, field{text, strings.Contains(text, "/")})
			s = strings.TrimPrefix(after, ":")
			continue
		}
		var b strings.Builder
		i := 0
		for ; i < len(s) && s[i] != ':'; i++ {
			if s[i] == '\\' {
				if i++; i == len(s) {
					return nil, errors.New("a backslash stands at the end")
				}
			}
			b.WriteByte(s[i])
		}
		text := b.String()
		list = append(list, field{text, strings.Contains(text, "/")})
		s = s[min(i+1, len(s)):]
	}
	if len(list) == 0 {
		return nil, errShape
	}
	return list, nil
}
