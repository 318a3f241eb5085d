package firewall

import (
	"encoding/binary"
	"fmt"
)

// A Dump is what the kernel lists of nftables, message by message, as it came. Reading it takes the kernel, making a Ruleset
// of it does not.
type Dump struct {
	Tables, Chains, Rules, Sets, Elements []Object
	Legacy                                []Saved // of iptables' older kernel interface
}

// An Object is the attributes of one message.
type Object struct {
	Family byte
	Attrs  []byte
}

// Saved is what iptables-save wrote for one family.
type Saved struct {
	V6   bool
	Text string
}

// eachAttr calls yield for every attribute of b (linux/netlink.h), without the flags in its type. It stops at the first
// that does not fit.
func eachAttr(b []byte, yield func(kind uint16, value []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		yield(binary.NativeEndian.Uint16(b[2:])&0x3fff, b[4:n])
		b = b[min(pad4(n), len(b)):]
	}
}

// attrs is the attributes of b by their type; of two of one type the last.
func attrs(b []byte) attrMap {
	var out attrMap
	eachAttr(b, func(kind uint16, value []byte) {
		if int(kind) < len(out) {
			out[kind] = value
			if value == nil {
				out[kind] = []byte{}
			}
		}
	})
	return out
}

type attrMap [20][]byte

func (a attrMap) text(kind int) string {
	b := a[kind]
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}

func (a attrMap) u32(kind int) uint32 {
	if len(a[kind]) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(a[kind])
}

func (a attrMap) u64(kind int) uint64 {
	if len(a[kind]) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(a[kind])
}

// Attribute numbers and flags of linux/netfilter/nf_tables.h.
const (
	tableDormant = 1
	tableOwner   = 2

	setInterval = 0x4
	setEval     = 0x20

	elementEnd      = 1
	elementCatchall = 2
)

// Parse makes a Ruleset of a dump. Fairlead's own tables are left out.
func (d *Dump) Parse() (*Ruleset, error) {
	rs := newRuleset()
	for _, o := range d.Tables {
		a := attrs(o.Attrs)
		id := tableID{family: o.Family, name: a.text(1)}
		if id.family == familyInet && id.name == MarkTable {
			rs.marks = a.u64(4)
		}
		if filters(id) {
			t := rs.table(id)
			t.dormant, t.owned = a.u32(2)&tableDormant != 0, a.u32(2)&tableOwner != 0
		}
	}
	for _, o := range d.Chains {
		if c := parseChain(o); filters(c.id.tableID) {
			rs.addChain(c)
		}
	}
	for _, o := range d.Sets {
		if id := (tableID{family: o.Family, name: attrs(o.Attrs).text(1)}); filters(id) {
			s := parseSet(o.Attrs)
			rs.table(id).sets[s.name] = s
		}
	}
	elements := map[*set][]entry{}
	for _, o := range d.Elements {
		a := attrs(o.Attrs)
		if s := rs.table(tableID{family: o.Family, name: a.text(1)}).sets[a.text(2)]; s != nil {
			eachAttr(a[3], func(_ uint16, item []byte) { elements[s] = append(elements[s], parseEntry(item)) })
			if a[3] != nil {
				s.opaque = s.opaque && s.changes
			}
		}
	}
	for s, list := range elements {
		s.fill(list)
	}
	for _, o := range d.Rules {
		a := attrs(o.Attrs)
		id := tableID{family: o.Family, name: a.text(1)}
		if !filters(id) {
			continue
		}
		c := rs.chains[chainID{id, a.text(2)}]
		if c == nil {
			return nil, fmt.Errorf("a rule is in chain %q of table %q, which is not there", a.text(2), id)
		}
		c.rules = append(c.rules, parseRule(a, rs.table(id)))
	}
	for _, s := range d.Legacy {
		if err := parseSave(rs, s.Text, s.V6, true); err != nil {
			return nil, err
		}
	}
	rs.finish()
	return rs, nil
}

// filters reports whether a table belongs to another program and is of a family that a forward's packets pass.
func filters(id tableID) bool {
	switch id.family {
	case familyInet, familyIPv4, familyIPv6:
		return !isOwnTable(id.name)
	}
	return false
}

func parseChain(o Object) *chain {
	a := attrs(o.Attrs)
	c := &chain{id: chainID{tableID{family: o.Family, name: a.text(1)}, a.text(3)}, kind: a.text(7), policy: verdictAccept}
	if a[4] != nil {
		hook := attrs(a[4])
		c.base, c.hook, c.priority = true, Hook(hook.u32(1)), int32(hook.u32(2))
		if c.hook > Postrouting { // ingress: packets there are of no session of ours yet
			c.base = false
		}
		if a[5] != nil && a.u32(5) == 0 { // NF_DROP
			c.policy = verdictDrop
		}
	}
	return c
}

func parseSet(b []byte) *set {
	a := attrs(b)
	flags := a.u32(3)
	s := &set{name: a.text(2), keyLen: int(a.u32(5)), interval: flags&setInterval != 0, exact: map[string]element{}}
	s.changes = flags&setEval != 0
	s.opaque = s.keyLen <= 0 || s.keyLen > 64 || s.changes
	if s.interval {
		eachAttr(attrs(a[9])[2], func(_ uint16, field []byte) { s.fields = append(s.fields, pad4(int(attrs(field).u32(1))&0xff)) })
	}
	return s
}

func parseEntry(item []byte) entry {
	a := attrs(item)
	e := entry{key: attrs(a[1])[1], end: a.u32(3)&elementEnd != 0, catchall: a.u32(3)&elementCatchall != 0}
	e.keyEnd = attrs(a[10])[1]
	data := attrs(a[2])
	e.data = data[1]
	if data[2] != nil {
		e.verdict = parseVerdict(data[2])
	}
	return e
}

func parseRule(a attrMap, t *tableInfo) *rule {
	r := &rule{handle: a.u64(3), comment: udataComment(a[7]), bare: true}
	d := decoder{table: t, family: t.id.family}
	eachAttr(a[4], func(_ uint16, b []byte) {
		e := attrs(b)
		d.expression(e.text(1), e[2])
	})
	r.steps = d.steps
	if d.comment != "" {
		r.comment = d.comment
	}
	for _, s := range r.steps {
		if _, ok := s.(decision); !ok {
			r.bare = false
		}
	}
	return r
}

// udataComment is the comment in user data: records of type, length and value, the comment being type 0.
func udataComment(b []byte) string {
	for len(b) >= 2 && len(b) >= 2+int(b[1]) {
		value := b[2 : 2+int(b[1])]
		if b[0] == 0 {
			for len(value) > 0 && value[len(value)-1] == 0 {
				value = value[:len(value)-1]
			}
			return string(value)
		}
		b = b[2+int(b[1]):]
	}
	return ""
}

// Verdicts (linux/netfilter.h and nf_tables.h).
const (
	codeDrop     = 0
	codeAccept   = 1
	codeContinue = -1
	codeBreak    = -2
	codeJump     = -3
	codeGoto     = -4
	codeReturn   = -5
)

func parseVerdict(b []byte) verdict {
	a := attrs(b)
	switch int32(a.u32(1)) {
	case codeDrop:
		return verdict{kind: verdictDrop}
	case codeAccept:
		return verdict{kind: verdictAccept}
	case codeJump:
		return verdict{verdictJump, a.text(2)}
	case codeGoto:
		return verdict{verdictGoto, a.text(2)}
	case codeReturn:
		return verdict{kind: verdictReturn}
	case codeContinue, codeBreak:
		return verdict{}
	}
	return verdict{kind: verdictUnknown}
}
