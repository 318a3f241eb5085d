package upnp

import (
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Bounds of a text.
const (
	MaxDocument = 512 << 10 // a description, a list of mappings
	maxDepth    = 32
	maxElements = 16 << 10
)

// ErrBadText is matched by every error of this package's parsers.
var ErrBadText = errors.New("not what UPnP says")

func bad(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrBadText, fmt.Sprintf(format, args...))
}

// An element of a text. Of attributes, nobody needs any but sendEvents.
type element struct {
	space, name string
	attribute   string // sendEvents
	text        string // outside its children, without space around it
	children    []*element
}

// child is the first child of a name, or nil.
func (e *element) child(name string) *element {
	if e != nil {
		for _, c := range e.children {
			if c.name == name {
				return c
			}
		}
	}
	return nil
}

// of is the text of the first child of a name.
func (e *element) of(name string) string {
	if c := e.child(name); c != nil {
		return c.text
	}
	return ""
}

// parse reads the one element that a text consists of. What is not well-formed is read as if it were, where that can be.
func parse(b []byte) (*element, error) {
	if len(b) > MaxDocument {
		return nil, bad("%d bytes; %d are the most", len(b), MaxDocument)
	}
	b = bytes.TrimRight(b, "\x00") // some programs count the end of a C string
	d := xml.NewDecoder(bytes.NewReader(b))
	d.CharsetReader = charset
	d.Strict = false // miniupnpc and many gateways write & and < as they are
	var root *element
	var open []*element
	for count := 0; ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, bad("%v", err)
		}
		switch token := token.(type) {
		case xml.StartElement:
			if count++; count > maxElements || len(open) >= maxDepth {
				return nil, bad("more than %d elements, or %d in each other", maxElements, maxDepth)
			}
			e := &element{space: token.Name.Space, name: token.Name.Local}
			for _, a := range token.Attr {
				if a.Name.Local == "sendEvents" {
					e.attribute = a.Value
				}
			}
			switch {
			case len(open) > 0:
				top := open[len(open)-1]
				top.children = append(top.children, e)
			case root != nil:
				return nil, bad("there is something behind the end")
			default:
				root = e
			}
			open = append(open, e)
		case xml.EndElement:
			top := open[len(open)-1]
			top.text = strings.TrimSpace(top.text)
			open = open[:len(open)-1]
		case xml.CharData:
			if len(open) > 0 {
				if top := open[len(open)-1]; top.text == "" {
					top.text = string(bytes.TrimLeft(token, " \t\r\n"))
				} else if len(top.children) == 0 { // of text between children, only the first piece could be of interest
					top.text += string(token)
				}
			}
		case xml.Directive:
			return nil, bad("a document type; there is none in UPnP")
		}
	}
	if root == nil {
		return nil, bad("there is no element")
	}
	return root, nil
}

// charset reads the encodings that are met besides UTF-8, all of them as Latin-1.
func charset(name string, r io.Reader) (io.Reader, error) {
	switch strings.ToLower(name) {
	case "utf8":
		return r, nil
	case "iso-8859-1", "iso8859-1", "latin1", "us-ascii", "ascii", "windows-1252":
		b, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		out := make([]byte, 0, len(b)+16)
		for _, c := range b {
			out = utf8.AppendRune(out, rune(c))
		}
		return bytes.NewReader(out), nil
	}
	return nil, fmt.Errorf("the encoding %q is not read", name)
}

// A writer puts a text together.
type writer struct{ b []byte }

func (w *writer) raw(s ...string) {
	for _, s := range s {
		w.b = append(w.b, s...)
	}
}

// leaf writes an element with a text. What is no character in XML becomes U+FFFD.
func (w *writer) leaf(name, text string) {
	w.raw("<", name, ">")
	w.escape(text)
	w.raw("</", name, ">")
}

// some is leaf, unless the text is empty.
func (w *writer) some(name, text string) {
	if text != "" {
		w.leaf(name, text)
	}
}

func (w *writer) escape(s string) {
	for i, r := range s {
		switch {
		case r == '<':
			w.raw("&lt;")
		case r == '>':
			w.raw("&gt;")
		case r == '&':
			w.raw("&amp;")
		case r == '"':
			w.raw("&quot;")
		case r == '\'':
			w.raw("&apos;")
		case r == '\r': // a bare one would be read as a line feed
			w.raw("&#13;")
		case r == '\t' || r == '\n' || r >= ' ' && r <= 0xd7ff || r >= 0xe000 && r <= 0xfffd && r != utf8.RuneError || r >= 0x10000:
			w.raw(s[i : i+utf8.RuneLen(r)])
		default:
			w.raw("\uFFFD")
		}
	}
}

const declaration = `<?xml version="1.0"?>` + "\n"
