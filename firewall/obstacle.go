package firewall

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// An Obstacle is what keeps a forward from working: a firewall that drops what it lets in.
type Obstacle struct {
	Owner  Owner
	Chain  string   // "ip filter FORWARD"
	Why    string   // in plain words: who drops what, and where
	Remedy []string // command lines, in order, after which it passes
	Hint   string   // what else is to be known of the remedy, or ""
}

// String is what is in the way, and what to run against it.
func (o Obstacle) String() string {
	s := o.Why
	if len(o.Remedy) > 0 {
		s += "; to let it through: " + strings.Join(o.Remedy, " && ")
	}
	if o.Hint != "" {
		s += " (" + o.Hint + ")"
	}
	return s
}

// A drop is one packet of a forward that does not get through.
type drop struct {
	journey journey
	packet  packet
	at      place
	owner   Owner
}

// budget is how many rules are looked at for one forward, at the most. A ruleset on which it does not suffice is not
// understood.
const budget = 200_000

// drops are where the packets of f are dropped for certain. mark is what Fairlead's own rules have set of their mark.
func (rs *Ruleset) drops(f *forward.Forward, h Host, mark uint32) (out []drop) {
	left := budget
	e := evaluator{rs: rs, skipOurs: mark == 0, budget: &left}
	for j := range func(yield func(journey) bool) { h.journeys(f, yield) } {
		for _, p := range j.packets {
			if p.hook != Prerouting {
				p.mark |= mark
			}
			if res, at := e.run(p); res == dropped {
				out = append(out, drop{j, p, at, rs.owner(at)})
			}
		}
		if left <= 0 {
			return nil
		}
	}
	return out
}

// Look is what keeps f from working on this host, nil where nothing is known to. How f is carried is decided: its Carry is
// not CarryAuto.
func (rs *Ruleset) Look(f *forward.Forward, h Host) *Obstacle {
	return rs.obstacle(f, rs.drops(f, h, 0))
}

func (rs *Ruleset) obstacle(f *forward.Forward, drops []drop) *Obstacle {
	if len(drops) == 0 {
		return nil
	}
	o := &Obstacle{Owner: drops[0].owner, Chain: drops[0].at.chain.id.String(), Why: why(drops[0])}
	var blocks []string
	for _, d := range drops {
		lines, hint := rs.remedy(f, d)
		if o.Hint == "" {
			o.Hint = hint
		}
		if block := strings.Join(lines, "\n"); len(lines) > 0 && !slices.Contains(blocks, block) {
			blocks = append(blocks, block)
			o.Remedy = appendLines(o.Remedy, lines, d.owner)
		}
	}
	return o
}

// appendLines adds one remedy to others. A policy of firewalld is made once, and firewalld reads it once at the end.
func appendLines(all, lines []string, owner Owner) []string {
	if owner != Firewalld {
		return append(all, lines...)
	}
	last := func(line string) bool { return line == firewalldReload }
	reload := slices.ContainsFunc(all, last) || slices.ContainsFunc(lines, last)
	all = slices.DeleteFunc(all, last)
	for _, line := range lines {
		if !last(line) && !slices.Contains(all, line) {
			all = append(all, line)
		}
	}
	if reload {
		all = append(all, firewalldReload)
	}
	return all
}

func why(d drop) string {
	var what string
	j := d.journey
	from := fmt.Sprintf("from %s by %s", j.client.addr, j.client.in)
	if j.client.addr == stranger(j.v6) {
		from = "from elsewhere by " + j.client.in
	}
	switch {
	case d.packet.hook == Prerouting:
		what = fmt.Sprintf("drops what comes in by %s to %s/%s", j.client.in, j.network, j.front)
		from = ""
	case d.packet.hook == Input:
		what = fmt.Sprintf("drops what comes in to %s port %d", j.network, d.packet.dstPort)
	case d.packet.reply:
		what = fmt.Sprintf("drops the answers of %s/%s", j.network, j.dst)
		from = ""
	default:
		what = fmt.Sprintf("drops what is routed to %s/%s", j.network, j.dst)
	}
	words := []string{string(d.owner), what}
	if from != "" {
		words = append(words, from)
	}
	return strings.Join(words, " ") + where(d.at)
}

func where(at place) string {
	switch {
	case at.rule == nil:
		return fmt.Sprintf(" (policy of chain %s, table %s)", at.chain.id.chain, at.chain.id.tableID)
	case at.rule.bare:
		return fmt.Sprintf(" (chain %s, table %s)", at.chain.id.chain, at.chain.id.tableID)
	}
	return fmt.Sprintf(" (a rule of chain %s, table %s)", at.chain.id.chain, at.chain.id.tableID)
}

// asked reports whether the drop is what somebody wrote down for such packets, rather than what is left over.
func (d drop) asked() bool {
	if d.owner == UFW {
		return d.at.rule != nil && strings.Contains(d.at.chain.id.chain, "-user-")
	}
	if d.owner == Firewalld {
		return strings.HasSuffix(d.at.chain.id.chain, "_deny") || strings.HasSuffix(d.at.chain.id.chain, "_pre")
	}
	return false
}
