package firewall

import (
	"cmp"
	"slices"
)

// Families of tables (linux/netfilter.h, NFPROTO_*).
const (
	familyInet = 1
	familyIPv4 = 2
	familyIPv6 = 10
)

var familyNames = map[byte]string{familyInet: "inet", familyIPv4: "ip", familyIPv6: "ip6"}

// A Hook is a place of the packet's way (linux/netfilter.h, nf_inet_hooks).
type Hook uint8

// The hooks.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
)

// A Ruleset is what all programs of a host have in the kernel's packet filter, as far as it can drop anything. It is data.
type Ruleset struct {
	chains map[chainID]*chain
	bases  []*chain // those that hang at a hook and may drop, in the order in which packets meet them
	tables map[tableID]*tableInfo
	marks  uint64 // the handle of the table of marks; 0: it is not there
}

func newRuleset() *Ruleset {
	return &Ruleset{chains: map[chainID]*chain{}, tables: map[tableID]*tableInfo{}}
}

// A tableID names a table of nftables. Legacy iptables has tables of its own beside them.
type tableID struct {
	family byte
	name   string
	legacy bool
}

func (t tableID) String() string {
	s := familyNames[t.family] + " " + t.name
	if t.legacy {
		s += " (legacy)"
	}
	return s
}

type chainID struct {
	tableID
	chain string
}

func (c chainID) String() string { return c.tableID.String() + " " + c.chain }

type tableInfo struct {
	id      tableID
	dormant bool
	owned   bool // by a process: nobody else may change it
	sets    map[string]*set
	names   map[string]bool // of its chains
}

type chain struct {
	id       chainID
	base     bool
	kind     string // "filter", "nat" or "route" of a base chain
	hook     Hook
	priority int32
	policy   verdictKind // of a base chain
	rules    []*rule
}

// A rule is its steps in order. The first that does not match ends it.
type rule struct {
	handle  uint64
	comment string
	steps   []step
	bare    bool // it matches everything
}

// ours reports whether Fairlead put the rule there.
func (r *rule) ours() bool { return r.comment == Comment }

// Comment marks the rules that Fairlead has in other programs' chains.
const Comment = "fairlead"

type verdictKind uint8

const (
	verdictNone verdictKind = iota
	verdictAccept
	verdictDrop
	verdictReturn
	verdictJump
	verdictGoto
	verdictUnknown // what becomes of the packet is decided where this room cannot look
)

type verdict struct {
	kind  verdictKind
	chain string // of jump and goto
}

func (rs *Ruleset) table(id tableID) *tableInfo {
	t := rs.tables[id]
	if t == nil {
		t = &tableInfo{id: id, sets: map[string]*set{}, names: map[string]bool{}}
		rs.tables[id] = t
	}
	return t
}

func (rs *Ruleset) addChain(c *chain) {
	rs.chains[c.id] = c
	rs.table(c.id.tableID).names[c.id.chain] = true
}

// finish orders the base chains. Chains of nat see only the first packet of a session and translate it; those of dormant
// tables see none.
func (rs *Ruleset) finish() {
	rs.bases = nil
	for _, c := range rs.chains {
		if c.base && c.kind != "nat" && !rs.table(c.id.tableID).dormant {
			rs.bases = append(rs.bases, c)
		}
	}
	slices.SortFunc(rs.bases, func(a, b *chain) int {
		return cmp.Or(cmp.Compare(a.hook, b.hook), cmp.Compare(a.priority, b.priority), cmp.Compare(a.id.String(), b.id.String()))
	})
}
