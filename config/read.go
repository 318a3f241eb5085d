package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/fairlead-net/fairlead/forward"
)

// A reader makes forwards and settings of the tree.
type reader struct {
	*problems
	forwards []*forward.Forward
	settings Settings
	ties     ties
}

func (r *reader) read(root *node) {
	if agent := root.child([]byte("agent")); agent != nil { // this and the hub before the nodes: they are such, or have some
		r.readAgent(agent)
		r.settings.Nodes = append(r.settings.Nodes, hubNode())
	}
	if hub := root.child([]byte("hub")); hub != nil {
		r.readHub(hub)
	}
	for _, c := range root.children { // before the forwards, which name them
		switch c.name {
		case "node":
			r.readNodes(c)
		case "users":
			r.readUsers(c)
		case "sshd":
			r.readSSHD(c)
		case "acme":
			r.readACME(c)
		case "oidc":
			r.readOIDC(c)
		}
	}
	if agents := root.child([]byte("agents")); agents != nil {
		r.readAgents(agents)
	}
	r.readGateway(root.child([]byte("gateway")), root.child([]byte("dmz")))
	for _, c := range root.children {
		switch c.name {
		case "node", "users", "sshd", "acme", "oidc", "gateway", "dmz", "hub", "agents", "agent":
		case "forward":
			if r.hasTables(c, "forward") {
				r.readForwards(c)
			}
		default:
			r.unknownTop(c)
		}
	}
}

// hasTables reports whether n, the table that tables of one kind stand in, is one itself.
func (r *reader) hasTables(n *node, what string) bool {
	if !n.shape.isTable() {
		r.add(problem{
			at: n.at, msg: n.name + " is not a table",
			hint: fmt.Sprintf("write [%s.NAME] above the keys of each %s, in single brackets", n.name, what),
		})
		return false
	}
	return true
}

func (r *reader) unknownTop(n *node) {
	const all = "a configuration has the tables [forward.NAME], [node.NAME], [users.NAME], [sshd], [acme], [oidc], [hub], [agents.NAME], [agent], [gateway] and [dmz]"
	one := problem{at: n.keyAt, msg: fmt.Sprintf("unknown key %s", quoteKey(n.name))}
	if n.shape != shapeScalar && n.shape != shapeList {
		one.msg = fmt.Sprintf("unknown table %s", quoteKey(n.name))
	}
	meant := suggest(n.name, []string{"forward", "node", "users", "sshd", "acme", "oidc", "hub", "agents", "agent", "gateway", "dmz"})
	switch {
	case new(Spec).field(n.name) != nil:
		one.hint = "the keys of a forward stand below its header, [forward.NAME]"
	case meant == "sshd", meant == "acme", meant == "oidc", meant == "gateway", meant == "dmz", meant == "hub", meant == "agent":
		one.hint = fmt.Sprintf("did you mean [%s]?", meant)
	case meant != "":
		one.hint = fmt.Sprintf("did you mean [%s.NAME]?", meant)
	default:
		one.hint = all
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
	var spec Spec
	s := forwardSheet(n.name, &spec)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return nil
	}
	bad := r.fill(n, s)
	f, err := spec.Forward(n.name, forward.OriginFile)
	if err == nil {
		err = errors.Join(CheckNodes(f, r.settings), CheckUsers(f, r.settings.Users), CheckProvider(f, r.settings.OIDC))
	}
	r.refuse(n, s, bad, err)
	if bad != nil {
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
				for e := range each(e) {
					if !yield(e) {
						return
					}
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

// set puts the value of n into a field of a Spec, or says why it does not fit and what would.
func set(target any, n *node, help func(key string) string) (msg, hint string) {
	switch target := target.(type) {
	case *string:
		return setText(target, n, help)
	case *Strings:
		return setList(target, n, help)
	case *int:
		return setNumber(target, n, help)
	case **bool:
		*target = new(bool)
		return setBool(*target, n)
	case *bool:
		return setBool(target, n)
	case *Publish:
		return target.setNode(n, help)
	case *Secret:
		if !n.isText() { // a hint with its text in it would show the secret
			return "this is not text in quotes", help(n.name)
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

func setText(target *string, n *node, help func(key string) string) (msg, hint string) {
	switch {
	case n.isText():
		*target = n.text
		return "", ""
	case n.name == "expires" && n.shape == shapeScalar:
		return setTime(target, n, help)
	case isTime(n.name) && n.shape == shapeScalar && (n.kind == unstable.Integer || n.kind == unstable.Float):
		hint = help(n.name)
		if _, err := forward.ParseDuration(n.text + "s"); err == nil {
			hint = fmt.Sprintf("write %s = %q for seconds", n.name, n.text+"s")
		}
		return "this is " + describe(n) + " without a unit", hint
	case n.name == "listen" && n.shape == shapeList:
		return "several ports are one text, not a list", "write listen = \"80,443\""
	}
	return wantText(n, help)
}

// isTime reports whether the value of key is a time such as "30s".
func isTime(key string) bool {
	switch key {
	case "connect_timeout", "idle_timeout", "udp_idle", "check_interval", "slow_start", "wake_timeout", "keepalive", "login_grace", "min_lifetime", "max_lifetime", "resume":
		return true
	}
	return false
}

func setList(target *Strings, n *node, help func(key string) string) (msg, hint string) {
	switch {
	case n.isText():
		*target = Strings{n.text}
		return "", ""
	case n.shape != shapeList:
		return wantText(n, help)
	}
	*target = make(Strings, len(n.children))
	for i, item := range n.children {
		if !item.isText() {
			return fmt.Sprintf("item %d of the list is %s, not text in quotes", i+1, describe(item)), help(n.name)
		}
		(*target)[i] = item.text
	}
	return "", ""
}

func setNumber(target *int, n *node, help func(key string) string) (msg, hint string) {
	if n.isText() {
		if number, err := strconv.ParseUint(n.text, 10, 31); err == nil {
			return "the number is in quotes", fmt.Sprintf("write %s = %d", n.name, number)
		}
	}
	if n.shape != shapeScalar || n.kind != unstable.Integer {
		return "this is " + describe(n) + ", not a whole number", help(n.name)
	}
	number, err := strconv.ParseInt(n.text, 0, 64)
	if err != nil || number > math.MaxInt32 || number <= math.MinInt32 {
		return fmt.Sprintf("%s is too large", n.text), help(n.name)
	}
	*target = int(number)
	return "", ""
}

func wantText(n *node, help func(key string) string) (msg, hint string) {
	if n.shape == shapeScalar && n.kind != unstable.Bool {
		return "this is " + describe(n) + ", not text", fmt.Sprintf("put it in quotes: %s = %q", n.name, n.text)
	}
	return "this is " + describe(n) + ", not text", help(n.name)
}

// setTime takes a date and time without quotes. One without a time zone is in the local time of this host.
func setTime(target *string, n *node, help func(key string) string) (msg, hint string) {
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
			return fmt.Sprintf("%s is no date and time", n.text), help(n.name)
		}
		return wantText(n, help)
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
