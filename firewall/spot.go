package firewall

import (
	"slices"
	"strings"
)

// A spot is where in another program's chains a rule that accepts marked packets takes effect without going before what that
// program was told to drop.
type spot struct {
	chain chainID
	where position
	xt    bool // the rule is written as iptables does, so that it can go on reading its table
}

type position uint8

const (
	atFirst position = iota
	atLast
	beforeReturn // at the end, but for a rule that only goes back
	beforeReject // before the last rule, which rejects what is left
)

// spots are where the packet of d would have to be accepted. None: that firewall provides no place, or was told to drop it.
func (rs *Ruleset) spots(d drop) []spot {
	if d.asked() || d.at.chain.id.legacy || rs.table(d.at.chain.id.tableID).owned {
		return nil
	}
	table := d.at.chain.id.tableID
	one := func(chain string, where position) []spot {
		id := chainID{table, chain}
		if rs.chains[id] == nil {
			return nil
		}
		return []spot{{chain: id, where: where, xt: isIptables(rs, table)}}
	}
	switch d.owner {
	case UFW: // its chains for the rules of users, after those
		for _, c := range d.at.visited {
			if name := c.id.chain; strings.HasSuffix(name, "-user-forward") || strings.HasSuffix(name, "-user-input") {
				return one(name, atLast)
			}
		}
	case Firewalld: // where a zone has its open ports: after what it denies
		for _, c := range d.at.visited {
			name := c.id.chain
			if strings.HasSuffix(name, "_allow") && !strings.Contains(name, "policy_") {
				return one(name, atLast)
			}
		}
	case Docker:
		if table.name == "filter" {
			return one("DOCKER-USER", beforeReturn)
		}
	case Libvirt: // it has no rules of users; the last of each network rejects
		return one(d.at.chain.id.chain, atFirst)
	case OpenWrt:
		for _, c := range d.at.visited {
			if name := c.id.chain; strings.HasPrefix(name, "input_") || strings.HasPrefix(name, "forward_") {
				return one(name, beforeReject)
			}
		}
		return one(d.at.base().id.chain, beforeReject)
	}
	return nil
}

// at is the index at which a rule of s belongs among rules, those of Fairlead left out.
func (s spot) at(rs *Ruleset, rules []*rule) int {
	n := len(rules)
	switch s.where {
	case atFirst:
		return 0
	case beforeReturn:
		for n > 0 && rules[n-1].bare && rules[n-1].verdict().kind == verdictReturn {
			n--
		}
	case beforeReject:
		if n > 0 && rejects(rules[n-1].verdict()) {
			n--
		}
	}
	return n
}

func rejects(v verdict) bool {
	switch v.kind {
	case verdictDrop:
		return true
	case verdictJump, verdictGoto:
		return strings.Contains(v.chain, "reject") || strings.Contains(v.chain, "drop")
	}
	return false
}

// verdict is what r says at its end.
func (r *rule) verdict() verdict {
	if len(r.steps) == 0 {
		return verdict{}
	}
	d, _ := r.steps[len(r.steps)-1].(decision)
	return d.verdict
}

// An edit is what has to happen in one chain: rules of ours that go, and one that comes.
type edit struct {
	chain  chainID
	delete []uint64
	insert *insertion
}

type insertion struct {
	spot
	before uint64 // the handle of the rule that it comes before; 0: at the end
}

// edits is what makes the chains of others have a rule at each of spots and nowhere else. It is nothing where they have.
func (rs *Ruleset) edits(spots []spot) (out []edit) {
	for id, c := range rs.chains {
		if id.legacy {
			continue
		}
		e := edit{chain: id}
		var others []*rule
		var ours []int // where among others each of ours stands
		for _, r := range c.rules {
			if r.ours() {
				ours = append(ours, len(others))
				e.delete = append(e.delete, r.handle)
			} else {
				others = append(others, r)
			}
		}
		if i := slices.IndexFunc(spots, func(s spot) bool { return s.chain == id }); i >= 0 {
			at := spots[i].at(rs, others)
			if len(ours) == 1 && ours[0] == at {
				continue
			}
			e.insert = &insertion{spot: spots[i]}
			if at < len(others) {
				e.insert.before = others[at].handle
			}
		}
		if len(e.delete) > 0 || e.insert != nil {
			out = append(out, e)
		}
	}
	slices.SortFunc(out, func(a, b edit) int { return strings.Compare(a.chain.String(), b.chain.String()) })
	return out
}

// acceptMarked is the rule, as expressions.
func (s spot) acceptMarked() []byte {
	if !s.xt {
		return concat(exprMarked(), exprCounter(), exprAccept())
	}
	return concat(xtMatch("mark", 1, append(concat(native32(Mark), native32(Mark)), make([]byte, 8)...)),
		xtMatch("comment", 0, padded(Comment, 256)), exprCounter(), exprAccept())
}

// xtMatch is an extension of iptables with its data, whose size is a multiple of eight (XT_ALIGN).
func xtMatch(name string, revision uint32, data []byte) []byte {
	return expr("match", strAttr(1, name), u32Attr(2, revision), attr(3, data))
}

// userComment is user data that nft(8) shows as a comment: type 0, length, text with a closing zero.
func userComment(text string) []byte {
	return append([]byte{0, byte(len(text) + 1)}, append([]byte(text), 0)...)
}
