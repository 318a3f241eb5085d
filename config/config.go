package config

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/fairlead-net/fairlead/forward"
)

// The limits of one configuration.
const (
	MaxForwards = 65536
	MaxSize     = 16 << 20 // bytes; MaxForwards with every key set fit in several times over
)

//go:embed reference.toml
var reference []byte

// Reference is a configuration that explains every key by example. It is a valid file itself.
func Reference() []byte { return bytes.Clone(reference) }

// A Config is a whole configuration.
type Config struct {
	Forwards []*forward.Forward // sorted by name; their origin is forward.OriginFile
	Settings Settings
}

// Load reads the configuration in a file. The error is Errors.
func Load(path string) (*Config, error) {
	data, err := Read(path)
	if err != nil {
		return nil, err
	}
	return Parse(path, data)
}

// Read reads the text of a configuration, whatever it says. The error is Errors.
func Read(path string) ([]byte, error) {
	data, err := readFile(path)
	if err != nil {
		return nil, Errors{fileError(path, err)}
	}
	return data, nil
}

var (
	errDirectory = errors.New("this is a directory")
	errTooLarge  = fmt.Errorf("the file is larger than %d MiB", MaxSize>>20)
)

// readFile gives up as soon as a file is known to be too large, and reads one byte beyond the limit at most: a pipe does
// not say how long it is.
func readFile(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, errDirectory
	case info.Size() > MaxSize:
		return nil, errTooLarge
	}
	data, err := io.ReadAll(io.LimitReader(file, MaxSize+1))
	if err == nil && len(data) > MaxSize {
		err = errTooLarge
	}
	return data, err
}

func fileError(path string, err error) *Error {
	e := &Error{File: path, Msg: err.Error(), err: err}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		e.Msg = pathErr.Err.Error() // the path stands before it already
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		e.Msg, e.Hint = "there is no such file", "name the file with -c, or start from the reference: [forward.web] with listen = \"80\" and to = \"192.168.1.10:8080\""
	case errors.Is(err, fs.ErrPermission):
		e.Hint = "the file has to be readable by the user that fairlead runs as"
	case errors.Is(err, errDirectory):
		e.Hint = "name a file in it, such as " + strings.TrimSuffix(path, "/") + "/fairlead.toml"
	case errors.Is(err, errTooLarge):
		e.Hint = "is this the file you meant? A configuration holds at most 65536 forwards, about 5 MB of text"
	}
	return e
}

// Parse reads a configuration. File is the name that errors give it; nothing is opened. The error is Errors.
func Parse(file string, data []byte) (*Config, error) {
	if len(data) > MaxSize {
		return nil, Errors{fileError(file, errTooLarge)}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff")) // some editors put one before UTF-8
	p := problems{file: file, data: data}
	if !p.checkText() {
		return nil, p.errors()
	}
	doc := parseTree(data, &p)
	if doc == nil {
		return nil, p.errors()
	}
	r := reader{problems: &p}
	r.read(doc)
	if len(p.list) > 0 {
		return nil, p.errors()
	}
	slices.SortFunc(r.forwards, func(a, b *forward.Forward) int { return strings.Compare(a.Name, b.Name) })
	return &Config{Forwards: r.forwards, Settings: r.settings}, nil
}

// checkText refuses what is no text before a parser looks at it, so that binary junk gets one plain error.
func (p *problems) checkText() bool {
	const save = "fairlead.toml is plain text; save it as UTF-8"
	if bytes.HasPrefix(p.data, []byte{0xff, 0xfe}) || bytes.HasPrefix(p.data, []byte{0xfe, 0xff}) {
		p.add(problem{at: 0, msg: "the file is UTF-16 text", hint: save})
		return false
	}
	if at := bytes.IndexByte(p.data, 0); at >= 0 {
		p.add(problem{at: at, msg: "this is no text file: there is a zero byte in it", hint: save})
		return false
	}
	if utf8.Valid(p.data) {
		return true
	}
	at := 0
	for at < len(p.data) {
		r, size := utf8.DecodeRune(p.data[at:])
		if r == utf8.RuneError && size <= 1 {
			break
		}
		at += size
	}
	p.add(problem{at: at, msg: fmt.Sprintf("this is no UTF-8 text: there is a byte 0x%02x in it", p.data[at]), hint: save})
	return false
}
