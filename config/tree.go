package config

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2/unstable"
)

// The tree is built from go-toml's expressions rather than by its Unmarshal for three reasons: every node keeps its place
// in the file, reading goes on after a problem so that all of them are reported, and the cost grows with the size of
// the file (v2.4.3 looks for duplicate keys by walking all keys seen so far: 60,000 tables take it ten seconds). What the
// tree takes and Unmarshal does not would be a fault; FuzzParse compares them.

// A shape is how a node came to be, which decides what may still be added to it (toml.io v1.1.0, "Table").
type shape uint8

const (
	shapeScalar shape = iota
	shapeList
	shapeInline  // {…}: complete where it stands
	shapeDotted  // opened by a dotted key: only dotted keys of the same table add to it
	shapeTable   // opened by a [header]
	shapeHeaders // opened by [[header]]: its children are tables
)

func (s shape) isTable() bool { return s == shapeInline || s == shapeDotted || s == shapeTable }

type node struct {
	name     string
	shape    shape
	kind     unstable.Kind // of a scalar
	explicit bool          // a table that had its own header
	at       int           // offset of the value, or of the header
	keyAt    int           // offset of the key, or of the header
	text     string        // of a scalar: the content of a string, anything else as it is written
	children []*node       // of a table its keys in the order of the file, of a list its items
	byName   map[string]*node
}

const (
	maxDepth = 16 // parts of one dotted key; forward.NAME.KEY has three
	maxItems = 1 << 16
	scanned  = 12 // up to so many keys a table is searched one by one
)

func (n *node) child(name []byte) *node {
	if n.byName != nil {
		return n.byName[string(name)]
	}
	for _, c := range n.children {
		if c.name == string(name) {
			return c
		}
	}
	return nil
}

func (n *node) addChild(c *node) *node {
	n.children = append(n.children, c)
	if n.byName == nil && len(n.children) > scanned {
		n.byName = make(map[string]*node, 2*scanned)
		for _, old := range n.children {
			n.byName[old.name] = old
		}
	} else if n.byName != nil {
		n.byName[c.name] = c
	}
	return c
}

// A builder turns expressions into the tree.
type builder struct {
	*problems
	parser  unstable.Parser
	root    *node
	current *node    // what the last header opened
	path    []string // of current
	parts   [][]byte // of the last key
	names   map[string]string
	free    []node
	failed  bool
}

// parseTree is the root of data, or nil when data is not TOML; then the reason is among the problems.
func parseTree(data []byte, p *problems) *node {
	b := builder{problems: p, root: &node{shape: shapeTable}, names: map[string]string{}}
	b.current = b.root
	b.parser.Reset(data)
	for b.parser.NextExpression() {
		switch e := b.parser.Expression(); e.Kind {
		case unstable.Table, unstable.ArrayTable:
			b.header(e)
		case unstable.KeyValue:
			b.keyValue(b.current, b.path, e)
		}
	}
	if err := b.parser.Error(); err != nil {
		b.syntaxError(err)
	}
	if b.failed {
		return nil
	}
	return b.root
}

// name is a key as a string. The few keys of a forward come tens of thousands of times and are one string each.
func (b *builder) name(data []byte) string {
	if s, ok := b.names[string(data)]; ok {
		return s
	}
	s := string(data)
	if len(b.names) < 64 {
		b.names[s] = s
	}
	return s
}

func (b *builder) header(e *unstable.Node) {
	parts, at, ok := b.key(e.Key())
	at = bytes.LastIndexByte(b.data[:at], '[')
	if e.Kind == unstable.ArrayTable {
		at--
	}
	parent, last := b.root, len(parts)-1
	b.path = b.path[:0]
	for _, part := range parts {
		b.path = append(b.path, b.name(part))
	}
	// Whatever is wrong with a header, the keys below it are read into a table, that belongs to nothing then.
	b.current = b.node(node{name: b.path[last], shape: shapeTable, at: at, keyAt: at})
	if !ok {
		return
	}
	for i, part := range parts[:last] {
		c := parent.child(part)
		switch {
		case c == nil:
			c = parent.addChild(b.node(node{name: b.path[i], shape: shapeTable, at: at, keyAt: at}))
		case c.shape == shapeHeaders:
			c = c.children[len(c.children)-1]
		case c.shape != shapeTable && c.shape != shapeDotted:
			b.twice(b.path, at, c)
			return
		}
		parent = c
	}
	c := parent.child(parts[last])
	switch {
	case e.Kind == unstable.ArrayTable:
		if c == nil {
			c = parent.addChild(b.node(node{name: b.path[last], shape: shapeHeaders, at: at, keyAt: at}))
		} else if c.shape != shapeHeaders {
			b.twice(b.path, at, c)
			return
		}
		c.children = append(c.children, b.current)
		return
	case c == nil:
		c = parent.addChild(b.current)
	case c.shape != shapeTable || c.explicit:
		b.twice(b.path, at, c)
		return
	default:
		c.at, c.keyAt = at, at // until now only tables below it had been seen
	}
	c.explicit = true
	b.current = c
}

// keyValue enters one "key = value" below the table at path.
func (b *builder) keyValue(table *node, path []string, e *unstable.Node) {
	parts, at, ok := b.key(e.Key())
	if !ok {
		return
	}
	last := len(parts) - 1
	for i, part := range parts[:last] {
		c := table.child(part)
		if c == nil {
			c = table.addChild(b.node(node{name: b.name(part), shape: shapeDotted, at: at, keyAt: at}))
		} else if c.shape != shapeDotted {
			b.twice(append(path[:len(path):len(path)], names(parts[:i+1])...), at, c)
			return
		}
		table = c
	}
	if c := table.child(parts[last]); c != nil {
		b.twice(append(path[:len(path):len(path)], names(parts)...), at, c)
		return
	}
	value := e.Value()
	n := b.node(node{name: b.name(parts[last]), at: b.valueOffset(e), keyAt: at})
	table.addChild(n)
	if value.Kind == unstable.InlineTable {
		n.at = at
		path = append(path[:len(path):len(path)], names(parts)...)
	}
	b.value(n, path, value)
}

func (b *builder) value(n *node, path []string, v *unstable.Node) {
	switch v.Kind {
	case unstable.InlineTable:
		n.shape = shapeInline
		for it := v.Children(); it.Next(); {
			b.keyValue(n, path, it.Node())
		}
		closeDotted(n)
	case unstable.Array:
		n.shape = shapeList
		for it := v.Children(); it.Next(); {
			if len(n.children) == maxItems {
				b.fail(problem{at: n.at, msg: fmt.Sprintf("the list has more than %d items", maxItems), hint: "neighbouring networks may be written as one, such as 10.0.0.0/8"})
				return
			}
			item := b.node(node{at: n.at})
			if raw := it.Node().Raw; raw.Length > 0 {
				item.at = int(raw.Offset)
			}
			n.children = append(n.children, item)
			b.value(item, path, it.Node())
		}
	default:
		n.kind, n.text = v.Kind, string(v.Data)
	}
}

// closeDotted makes the tables that dotted keys opened inside an inline table as complete as the inline table is.
func closeDotted(n *node) {
	for _, c := range n.children {
		if c.shape == shapeDotted {
			c.shape = shapeInline
			closeDotted(c)
		}
	}
}

// node is a copy of n in the tree. They are made many at a time, for a file has a quarter of a million.
func (b *builder) node(n node) *node {
	if len(b.free) == 0 {
		b.free = make([]node, 256)
	}
	one := &b.free[0]
	b.free = b.free[1:]
	*one = n
	return one
}

// key is the parts of a key, until the next call, and the offset of the first.
func (b *builder) key(it unstable.Iterator) (parts [][]byte, at int, ok bool) {
	parts = b.parts[:0]
	defer func() { b.parts = parts }()
	for it.Next() {
		if len(parts) == 0 {
			at = int(it.Node().Raw.Offset)
		}
		if parts = append(parts, it.Node().Data); len(parts) > maxDepth {
			b.fail(problem{at: at, msg: fmt.Sprintf("the key has more than %d parts", maxDepth), hint: "a key of a forward is forward.NAME.KEY; a name with dots stands in quotes"})
			return parts, at, false
		}
	}
	return parts, at, true
}

// valueOffset is where the value of "key = value" begins. go-toml says so for scalars only.
func (b *builder) valueOffset(e *unstable.Node) int {
	at := 0
	for it := e.Key(); it.Next(); {
		at = int(it.Node().Raw.Offset + it.Node().Raw.Length)
	}
	isSpace := func(c byte) bool { return c == ' ' || c == '\t' || c == '=' }
	for at < len(b.data)-1 && isSpace(b.data[at]) {
		at++
	}
	return at
}

// fail adds a problem after which the tree is of no use.
func (b *builder) fail(one problem) {
	b.failed = true
	b.add(one)
}

func (b *builder) twice(path []string, at int, first *node) {
	one := problem{at: at, hint: "leave one of them out, or give it another name"}
	sheet, ok := sheetOf(path[:min(len(path), 2)])
	if !ok {
		sheet, ok = sheetOf(path[:1])
	}
	if ok {
		one = sheet.mark(one)
	}
	if ok && len(path) == 2 && sheet.table != "" {
		one.msg = fmt.Sprintf("there is a %s of this name already, at %s", sheet.what, b.where(first.at))
	} else {
		one.msg = fmt.Sprintf("%s is written twice; first at %s", quoteKey(path[len(path)-1]), b.where(first.at))
		one.hint = "leave one of them out"
	}
	b.add(one)
}

func names(parts [][]byte) []string {
	list := make([]string, len(parts))
	for i, p := range parts {
		list[i] = string(p)
	}
	return list
}

// syntaxError says what go-toml could not read. The commonest mistake by far is text without quotes, which a TOML parser
// takes for something else and describes in its own words.
func (b *builder) syntaxError(err error) {
	one := problem{at: len(b.data), msg: err.Error(), hint: "the file is TOML: [forward.NAME], then lines such as listen = \"80\""}
	var perr *unstable.ParserError
	if errors.As(err, &perr) {
		one.msg = perr.Message
		if at := cap(b.data) - cap(perr.Highlight); perr.Highlight != nil && at >= 0 && at <= len(b.data) {
			one.at = at
		}
	}
	if sheet, ok := sheetOf(b.path); ok {
		one = sheet.mark(one)
	}
	if key, value, at, ok := b.unquoted(one.at); ok {
		one.at, one.msg = at, fmt.Sprintf("the value of %s is text without quotes", key)
		if one.hint = fmt.Sprintf("write %s = %q", key, value); value == "" {
			one.hint = fmt.Sprintf("write %s = \"…\"", key)
		}
	}
	b.fail(one)
}

// unquoted finds the value that should have been in quotes, if the line at offset at has one. A secret is not repeated: it is "".
func (b *builder) unquoted(at int) (key, value string, place int, ok bool) {
	start := bytes.LastIndexByte(b.data[:at], '\n') + 1
	line, _, _ := bytes.Cut(b.data[start:], []byte("\n"))
	before, after, found := bytes.Cut(line, []byte("="))
	if !found || at <= start+len(before) {
		return "", "", 0, false
	}
	after, _, _ = bytes.Cut(after, []byte("#"))
	key, value = strings.TrimSpace(string(before)), strings.TrimSpace(string(after))
	sheet, known := sheetOf(b.path)
	if !known {
		sheet = forwardSheet("", new(Spec))
	}
	place = start + len(before) + 1 + bytes.Index(line[len(before)+1:], []byte(value))
	switch sheet.field(key).(type) {
	case *string, *Strings:
	case *Secret:
		return key, "", place, value != "" && value[0] != '"' && value[0] != '\''
	default:
		return "", "", 0, false
	}
	if value == "" || strings.ContainsAny(value, "\"',") || strings.HasPrefix(value, "[") && strings.HasSuffix(value, "]") {
		return "", "", 0, false
	}
	return key, value, place, true
}
