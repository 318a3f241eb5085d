package firewall

import "slices"

// An outcome is what may become of a packet in a chain: more than one thing where a rule is not understood.
type outcome struct {
	accept, drop, next bool // next: it comes out at the end
	unsure             bool
	by                 place // of the drop that was found first
}

// A place is where in a ruleset something happens.
type place struct {
	chain   *chain
	rule    *rule   // nil: the policy of a base chain
	stack   []frame // the rules that led there, the base chain's first
	visited []*chain
}

type frame struct {
	chain *chain
	rule  *rule
}

func (p place) base() *chain {
	if len(p.stack) > 0 {
		return p.stack[0].chain
	}
	return p.chain
}

// maxDepth is how deep chains may call each other; the kernel's limit is 16 (NFT_JUMP_STACK_SIZE).
const maxDepth = 24

// An evaluator follows one packet through a ruleset.
type evaluator struct {
	rs       *Ruleset
	skipOurs bool // what Fairlead has in other programs' chains is not there
	budget   *int // rules that may still be looked at
	stack    []frame
	visited  []*chain
	first    place // of a drop below the base chain that is followed
	m        machine
}

// result is what a ruleset does with a packet.
type result uint8

const (
	passes result = iota
	dropped
	undecided
)

// run follows p through the base chains of its hook. What drops it for sure is named even where another chain may have
// dropped it before: the packet does not get beyond that one.
func (e *evaluator) run(p packet) (result, place) {
	sure := true
	for _, base := range e.rs.bases {
		if base.hook != p.hook || base.id.family == familyIPv4 && p.v6 || base.id.family == familyIPv6 && !p.v6 {
			continue
		}
		q := p
		q.untracked = beforeConntrack(base)
		if base.hook == Prerouting && base.priority > translation && p.dnat {
			q.dst, q.dstPort, q.dstLocal = p.newDst.Addr(), p.newDst.Port(), p.newLocal
		}
		e.m.p, e.stack, e.visited, e.first = &q, e.stack[:0], nil, place{}
		out := e.chain(base)
		if out.next {
			out = out.with(e.policy(base))
		}
		switch {
		case out.unsure || out.accept && out.drop:
			sure = false
		case out.drop:
			return dropped, out.by
		}
		p.mark, p.markKnown = q.mark, q.markKnown
		if *e.budget <= 0 {
			sure = false
			break
		}
	}
	if !sure {
		return undecided, place{}
	}
	return passes, place{}
}

// translation is the priority at which Fairlead rewrites destinations; translation of others is close to it.
const translation = -110

// beforeConntrack reports whether chains of this place see packets that belong to no session yet (NF_IP_PRI_CONNTRACK).
func beforeConntrack(base *chain) bool {
	const conntrack = -200
	return (base.hook == Prerouting || base.hook == Output) && base.priority <= conntrack
}

func (e *evaluator) policy(base *chain) outcome {
	if base.policy == verdictDrop {
		return outcome{drop: true, by: place{chain: base, visited: e.visited}}
	}
	return outcome{accept: true}
}

// with is what comes out when what came to the end of o goes on as in p.
func (o outcome) with(p outcome) outcome {
	if !o.drop && p.drop {
		o.by = p.by
	}
	return outcome{accept: o.accept || p.accept, drop: o.drop || p.drop, next: p.next, unsure: o.unsure || p.unsure, by: o.by}
}

// maybe is o where it is not known whether the rule that leads to it matches.
func (o outcome) maybe(before outcome) outcome {
	out := before.with(o)
	out.next = before.next || o.next
	return out
}

// chain follows the packet through c.
func (e *evaluator) chain(c *chain) (out outcome) {
	e.visited = append(e.visited, c)
	if len(e.stack) > maxDepth {
		return outcome{unsure: true}
	}
	returned := false // it may have come back early
	for _, r := range c.rules {
		if e.skipOurs && r.ours() {
			continue
		}
		if *e.budget--; *e.budget <= 0 {
			return outcome{unsure: true}
		}
		match, v := e.rule(r)
		if match == no || v.kind == verdictNone {
			continue
		}
		one, came := e.follow(c, r, v)
		if match == unknown {
			// What it would do is one possibility; the next rules are the other.
			returned = returned || one.next && came != goesOn
			one.next = false
			out = one.maybe(out)
			continue
		}
		again := one.next && came == goesOn
		one.next = one.next && came != goesOn
		out = one.maybe(out)
		if !again {
			out.next = out.next || returned
			return out
		}
	}
	out.next = true
	return out
}

// cameBack is where a packet goes on that a verdict has let through.
type cameBack uint8

const (
	goesOn  cameBack = iota // at the next rule
	returns                 // after the rule that led to this chain
)

// follow is what verdict v of rule r in chain c does.
func (e *evaluator) follow(c *chain, r *rule, v verdict) (outcome, cameBack) {
	switch v.kind {
	case verdictAccept:
		return outcome{accept: true}, returns
	case verdictDrop:
		if e.first.chain == nil {
			e.first = place{chain: c, rule: r, stack: append(slices.Clone(e.stack), frame{c, r}), visited: slices.Clone(e.visited)}
		}
		return outcome{drop: true, by: e.first}, returns
	case verdictReturn:
		return outcome{next: true}, returns
	case verdictJump, verdictGoto:
		to := e.rs.chains[chainID{c.id.tableID, v.chain}]
		if to == nil {
			return outcome{unsure: true, next: true}, goesOn
		}
		e.stack = append(e.stack, frame{c, r})
		out := e.chain(to)
		e.stack = e.stack[:len(e.stack)-1]
		if v.kind == verdictGoto {
			return out, returns
		}
		return out, goesOn
	}
	return outcome{unsure: true}, returns
}

// rule is whether r matches, and its verdict. A step that certainly does not match decides, whatever came before it.
func (e *evaluator) rule(r *rule) (truth, verdict) {
	m := &e.m
	m.known, m.verdict, m.doubt = [16]bool{}, verdict{}, false
	match := yes
	for _, s := range r.steps {
		switch s.run(m) {
		case no:
			return no, verdict{}
		case unknown:
			match, m.doubt = unknown, true
		}
	}
	return match, m.verdict
}
