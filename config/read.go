package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/fairlead-net/fairlead/forward"
)

// A reader makes forwards of the tree.
type reader struct {
	*problems
	forwards []*forward.Forward
	nodes    map[string]bool // declared in the file, and refused there
	ties     ties
}

func (r *reader) read(root *node) {
	if nodes := root.child([]byte("node")); nodes != nil {
		r.refuseNodes(nodes)
	}
	for _, c := range root.children {
		switch {
		case c.name == "node":
		case c.name != "forward":
			r.unknownTop(c)
		case !c.shape.isTable():
			r.add(problem{at: c.at, msg: "forward is not a table", hint: "write [forward.NAME] above the keys of each forward, in single brackets"})
		default:
			r.readForwards(c)
		}
	}
}

func (r *reader) refuseNodes(n *node) {
	const hint = "this version forwards from this host and to what this host reaches; leave the node out, and at and via too"
	r.nodes = map[string]bool{}
	if !n.shape.isTable() || len(n.children) == 0 {
		r.add(problem{at: n.at, msg: "nodes are not supported by this version", hint: hint})
	}
	for _, c := range n.children {
		r.nodes[c.name] = true
		r.add(problem{at: c.at, msg: fmt.Sprintf("node %q: nodes are not supported by this version", c.name), hint: hint})
	}
}

func (r *reader) unknownTop(n *node) {
	one := problem{at: n.keyAt, msg: fmt.Sprintf("unknown key %s", quoteKey(n.name))}
	if n.shape != shapeScalar && n.shape != shapeList {
		one.msg = fmt.Sprintf("unknown table %s", quoteKey(n.name))
	}
	switch {
	case new(Spec).field(n.name) != nil:
		one.hint = "the keys of a forward stand below its header, [forward.NAME]"
	case suggest(n.name, []string{"forward"}) != "":
		one.hint = "did you mean [forward.NAME]?"
	default:
		one.hint = "a configuration has [forward.NAME] tables and nothing else"
	}
	r.add(one)
}

func (r *reader) readForwards(all *node) {
	if n := len(all.children); n > MaxForwards {
		r.add(problem{
			at: all.children[MaxForwards].at, forward: all.children[MaxForwards].name,
			msg:  fmt.Sprintf("the file has %d forwards; %d is the most", n, MaxForwards),
			hint: "one forward takes a range or a list of ports, such as listen = \"8000-8999\"",
		})
		return
	}
	r.forwards = make([]*forward.Forward, 0, len(all.children))
	total := 0
	for _, n := range all.children {
		f := r.readForward(n)
		if f == nil {
			continue
		}
		if total += claims(f); total > maxClaims {
			r.add(problem{
				at: n.at, forward: n.name, msg: fmt.Sprintf("with this one the forwards have more than %d combinations of network and port range", maxClaims),
				hint: "write neighbouring networks or ports as one",
			})
			return
		}
		r.forwards = append(r.forwards, f)
		r.checkTie(f, n.at)
	}
}

// readForward is the forward of one table, or nil when something about it was wrong.
func (r *reader) readForward(n *node) *forward.Forward {
	if !n.shape.isTable() {
		r.notTable(n)
		return nil
	}
	var spec Spec
	told := map[string]bool(nil) // keys with a problem that has been added, or about which one would only be noise
	tell := func(key string, one problem) {
		if told == nil {
			told = map[string]bool{}
		}
		told[key] = true
		one.forward = n.name
		r.add(one)
	}
	for _, c := range n.children {
		target := spec.field(c.name)
		if target == nil {
			meant, one := unknownKey(n, c)
			tell(meant, one)
			if meant == "" { // an unquoted name with a dot: [forward.NAME.MORE]
				told["listen"], told["to"] = true, true
			}
		} else if msg, hint := set(target, c); msg != "" {
			tell(c.name, problem{at: c.at, msg: c.name + ": " + msg, hint: hint})
		}
	}
	if r.nodes[spec.At] {
		spec.At = ""
	}
	if r.nodes[spec.Via] {
		spec.Via = ""
	}
	f, err := spec.Forward(n.name, forward.OriginFile)
	for err := range each(err) {
		var field *forward.FieldError
		if errors.As(err, &field) && told[field.Field] && field.Field != "" {
			continue
		}
		r.add(problem{at: placeOf(n, field), forward: n.name, msg: err.Error(), hint: Hint(err), err: err})
	}
	if told != nil {
		return nil
	}
	return f
}

// each yields the parts of a joined error, or the error itself.
func each(err error) func(func(error) bool) {
	return func(yield func(error) bool) {
		var joined interface{ Unwrap() []error }
		if errors.As(err, &joined) {
			for _, e := range joined.Unwrap() {
				if !yield(e) {
					return
				}
			}
		} else if err != nil {
			yield(err)
		}
	}
}

// placeOf is where the value stands that field is about, or the header of the table when it was not written.
func placeOf(table *node, field *forward.FieldError) int {
	if field == nil {
		return table.at
	}
	value := table.child([]byte(field.Field))
	if value == nil {
		return table.at
	}
	var item itemError
	if errors.As(field.Err, &item) && item.index < len(value.children) {
		return value.children[item.index].at
	}
	return value.at
}

func (r *reader) notTable(n *node) {
	one := problem{at: n.keyAt, forward: n.name, msg: "a forward is a table", hint: fmt.Sprintf("write [forward.%s] and below it its keys", quoteKey(n.name))}
	switch {
	case n.shape == shapeHeaders:
		one.msg, one.hint = "double brackets make a list, and a forward is one table", fmt.Sprintf("write [forward.%s]", quoteKey(n.name))
	case new(Spec).field(n.name) != nil:
		one.forward, one.msg = "", fmt.Sprintf("%s stands outside of any forward", n.name)
		one.hint = "write [forward.NAME] above it"
	}
	r.add(one)
}

// unknownKey is the problem with key c of forward n, and which known key was probably meant.
func unknownKey(n, c *node) (meant string, one problem) {
	one = problem{at: c.keyAt, msg: fmt.Sprintf("unknown key %s", quoteKey(c.name))}
	if c.shape == shapeTable || c.shape == shapeHeaders {
		name := n.name + "." + c.name
		for len(c.children) == 1 && c.children[0].shape == shapeTable {
			c = c.children[0]
			name += "." + c.name
		}
		one.hint = fmt.Sprintf("a name with a dot stands in quotes: [forward.%q]", name)
		return "", one
	}
	known := keys()
	if meant = suggest(c.name, known); meant != "" {
		one.hint = fmt.Sprintf("did you mean %s? %s", meant, Help(meant))
		return meant, one
	}
	one.hint = "a forward has the keys " + strings.Join(known, ", ")
	return c.name, one
}

// set puts the value of n into a field of a Spec, or says why it does not fit and what would.
func set(target any, n *node) (msg, hint string) {
	switch target := target.(type) {
	case *string:
		return setText(target, n)
	case *Strings:
		return setList(target, n)
	case *int:
		return setNumber(target, n)
	case **bool:
		*target = new(bool)
		return setBool(*target, n)
	case *bool:
		return setBool(target, n)
	case *Secret:
		if !n.isText() { // a hint with its text in it would show the secret
			return "this is not text in quotes", Help(n.name)
		}
		*target = Secret(n.text)
	}
	return "", ""
}

func setBool(target *bool, n *node) (msg, hint string) {
	value, err := strconv.ParseBool(n.text)
	if n.shape != shapeScalar || n.kind != unstable.Bool || err != nil {
		return "this is " + describe(n) + ", not true or false", fmt.Sprintf("write %s = true or %s = false, without quotes", n.name, n.name)
	}
	*target = value
	return "", ""
}

func (n *node) isText() bool { return n.shape == shapeScalar && n.kind == unstable.String }

func setText(target *string, n *node) (msg, hint string) {
	switch {
	case n.isText():
		*target = n.text
		return "", ""
	case n.name == "expires" && n.shape == shapeScalar:
		return setTime(target, n)
	case isTime(n.name) && n.shape == shapeScalar && (n.kind == unstable.Integer || n.kind == unstable.Float):
		hint = Help(n.name)
		if _, err := forward.ParseDuration(n.text + "s"); err == nil {
			hint = fmt.Sprintf("write %s = %q for seconds", n.name, n.text+"s")
		}
		return "this is " + describe(n) + " without a unit", hint
	case n.name == "listen" && n.shape == shapeList:
		return "several ports are one text, not a list", "write listen = \"80,443\""
	}
	return wantText(n)
}

// isTime reports whether the value of key is a time such as "30s".
func isTime(key string) bool {
	switch key {
	case "connect_timeout", "idle_timeout", "udp_idle", "check_interval", "slow_start", "wake_timeout":
		return true
	}
	return false
}

func setList(target *Strings, n *node) (msg, hint string) {
	switch {
	case n.isText():
		*target = Strings{n.text}
		return "", ""
	case n.shape != shapeList:
		return wantText(n)
	}
	*target = make(Strings, len(n.children))
	for i, item := range n.children {
		if !item.isText() {
			return fmt.Sprintf("item %d of the list is %s, not text in quotes", i+1, describe(item)), Help(n.name)
		}
		(*target)[i] = item.text
	}
	return "", ""
}

func setNumber(target *int, n *node) (msg, hint string) {
	if n.isText() {
		if number, err := strconv.ParseUint(n.text, 10, 31); err == nil {
			return "the number is in quotes", fmt.Sprintf("write %s = %d", n.name, number)
		}
	}
	if n.shape != shapeScalar || n.kind != unstable.Integer {
		return "this is " + describe(n) + ", not a whole number", Help(n.name)
	}
	number, err := strconv.ParseInt(n.text, 0, 64)
	if err != nil || number > math.MaxInt32 || number < math.MinInt32 {
		return fmt.Sprintf("%s is too large", n.text), Help(n.name)
	}
	*target = int(number)
	return "", ""
}

func wantText(n *node) (msg, hint string) {
	if n.shape == shapeScalar && n.kind != unstable.Bool {
		return "this is " + describe(n) + ", not text", fmt.Sprintf("put it in quotes: %s = %q", n.name, n.text)
	}
	return "this is " + describe(n) + ", not text", Help(n.name)
}

// setTime takes a date and time without quotes. One without a time zone is in the local time of this host.
func setTime(target *string, n *node) (msg, hint string) {
	var doc struct{ X any }
	err := toml.Unmarshal([]byte("x = "+n.text), &doc)
	switch t := doc.X.(type) {
	case time.Time:
		*target = t.UTC().Format(time.RFC3339Nano)
	case toml.LocalDateTime:
		*target = t.AsTime(time.Local).UTC().Format(time.RFC3339Nano)
	case toml.LocalDate:
		return "the time of day is missing", fmt.Sprintf("write %s = %sT00:00:00 for the moment that day begins", n.name, n.text)
	default:
		if err != nil && (n.kind == unstable.DateTime || n.kind == unstable.LocalDateTime || n.kind == unstable.LocalDate) {
			return fmt.Sprintf("%s is no date and time", n.text), Help(n.name)
		}
		return wantText(n)
	}
	return "", ""
}

// describe is what n is, for a message that wanted something else.
func describe(n *node) string {
	switch {
	case n.shape == shapeList || n.shape == shapeHeaders:
		return "a list"
	case n.shape != shapeScalar:
		return "a table"
	}
	switch n.kind {
	case unstable.String:
		return "text"
	case unstable.Bool:
		return n.text
	case unstable.Integer, unstable.Float:
		return "the number " + n.text
	}
	return "a date or time"
}
