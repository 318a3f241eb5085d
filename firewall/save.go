package firewall

import (
	"fmt"
	"math/bits"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// parseSave adds what iptables-save wrote, of one family. Chains of its tables hang at the hooks of their names, at the
// priorities of ip_tables (linux/netfilter_ipv4.h, nf_ip_hook_priorities).
func parseSave(rs *Ruleset, text string, v6, legacy bool) error {
	var table tableID
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch {
		case line == "" || line[0] == '#' || line == "COMMIT":
		case line[0] == '*':
			table = tableID{family: familyIPv4, name: line[1:], legacy: legacy}
			if v6 {
				table.family = familyIPv6
			}
			rs.table(table)
		case table.name == "":
			return fmt.Errorf("iptables-save: %.60q stands before any table", line)
		case line[0] == ':':
			name, rest, _ := strings.Cut(line[1:], " ")
			rs.addChain(savedChain(table, name, rest))
		default:
			if err := savedRule(rs, table, line); err != nil {
				return err
			}
		}
	}
	return nil
}

var builtin = map[string]Hook{"PREROUTING": Prerouting, "INPUT": Input, "FORWARD": Forward, "OUTPUT": Output, "POSTROUTING": Postrouting}

var savePriority = map[string]int32{"raw": -300, "mangle": -150, "filter": 0, "security": 50, "nat": 100}

func savedChain(table tableID, name, rest string) *chain {
	c := &chain{id: chainID{table, name}, policy: verdictAccept}
	hook, ok := builtin[name]
	policy, _, _ := strings.Cut(rest, " ")
	if !ok || policy == "-" {
		return c
	}
	c.base, c.hook, c.kind, c.priority = true, hook, "filter", savePriority[table.name]
	if table.name == "nat" {
		c.kind = "nat"
	}
	if policy == "DROP" {
		c.policy = verdictDrop
	}
	return c
}

func savedRule(rs *Ruleset, table tableID, line string) error {
	words := splitWords(line)
	if len(words) > 0 && strings.HasPrefix(words[0], "[") { // counters
		words = words[1:]
	}
	if len(words) < 2 || words[0] != "-A" {
		return fmt.Errorf("iptables-save: %.60q is no rule", line)
	}
	c := rs.chains[chainID{table, words[1]}]
	if c == nil {
		return fmt.Errorf("iptables-save: a rule is in chain %.60q, which is not there", words[1])
	}
	p := saveParser{d: decoder{table: rs.table(table), family: table.family}, words: words[2:]}
	p.rule()
	r := &rule{steps: p.d.steps, comment: p.d.comment, bare: true}
	for _, s := range r.steps {
		if _, ok := s.(decision); !ok {
			r.bare = false
		}
	}
	c.rules = append(c.rules, r)
	return nil
}

// splitWords splits at blanks, but for what is in double quotes.
func splitWords(line string) []string {
	var out []string
	var word strings.Builder
	quoted, in := false, false
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted && i+1 < len(line):
			i++
			word.WriteByte(line[i])
		case c == '"':
			quoted, in = !quoted, true
		case (c == ' ' || c == '\t') && !quoted:
			if in {
				out = append(out, word.String())
			}
			word.Reset()
			in = false
		default:
			word.WriteByte(c)
			in = true
		}
	}
	if in {
		out = append(out, word.String())
	}
	return out
}

// A saveParser reads the options of one rule. What it does not know makes the rule match perhaps.
type saveParser struct {
	d       decoder
	words   []string
	strange bool // the options belong to a match that is not looked into
}

func (p *saveParser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

func (p *saveParser) rule() {
	inverted := false
	for len(p.words) > 0 {
		option := p.next()
		if option == "!" {
			inverted = true
			continue
		}
		switch option {
		case "-m":
			p.module(p.next())
		case "-j", "-g":
			p.jump(option == "-g", p.next())
			return // what follows are the target's options
		case "--comment":
			p.d.comment = p.next()
		case "--limit", "--limit-burst":
			p.next()
		default:
			of := p.match(option)
			if p.strange && option != "-i" && option != "-o" && option != "-s" && option != "-d" && option != "-p" {
				of = nil
			}
			p.d.add(negated(of, inverted))
		}
		inverted = false
	}
}

// module begins a match. What most look at is told by their options.
func (p *saveParser) module(name string) {
	p.strange = false
	switch name {
	case "tcp", "udp", "conntrack", "state", "multiport", "comment", "limit", "addrtype", "mark", "icmp", "icmp6", "icmpv6":
	case "rt", "frag", "hbh", "dst": // headers that a client's packets do not have
		p.d.add(predicate(func(*packet) truth { return no }))
	case "rpfilter": // clients come in by where their answers leave
		inverted := slices.Contains(p.words, "--invert")
		p.d.add(predicate(func(*packet) truth { return truthOf(!inverted) }))
	default:
		p.strange = true
		p.d.add(mystery{})
	}
}

func negated(f predicate, inverted bool) step {
	if f == nil {
		return mystery{}
	}
	if !inverted {
		return f
	}
	return predicate(func(p *packet) truth { return f(p).not() })
}

// match is what one option asks for, or nil.
func (p *saveParser) match(option string) predicate {
	switch option {
	case "-p":
		return matchProto(p.next())
	case "-s", "-d":
		prefix, err := parsePrefix(p.next())
		if err != nil {
			return nil
		}
		return func(k *packet) truth {
			if option == "-s" {
				return truthOf(prefix.Contains(k.src))
			}
			return truthOf(prefix.Contains(k.dst))
		}
	case "-i", "-o":
		name := p.next()
		return func(k *packet) truth {
			have := k.in
			if option == "-o" {
				have = k.out
			}
			if prefix, ok := strings.CutSuffix(name, "+"); ok {
				return truthOf(strings.HasPrefix(have, prefix))
			}
			return truthOf(have == name)
		}
	case "--dport", "--sport", "--dports", "--sports", "--ports":
		ranges, ok := parsePorts(p.next())
		if !ok {
			return nil
		}
		return func(k *packet) truth {
			return truthOf(option != "--sport" && option != "--sports" && hasPort(ranges, k.dstPort) ||
				option != "--dport" && option != "--dports" && hasPort(ranges, k.srcPort))
		}
	case "--ctstate", "--state":
		return parseStates(p.next())
	case "--src-type", "--dst-type":
		return parseAddrType(option == "--src-type", p.next())
	case "--mark":
		value, mask, ok := strings.Cut(p.next(), "/")
		mark, err := strconv.ParseUint(value, 0, 32)
		all := uint64(1<<32 - 1)
		if ok && err == nil {
			all, err = strconv.ParseUint(mask, 0, 32)
		}
		if err != nil {
			return nil
		}
		return matchMark(uint32(mark), uint32(all), false)
	case "--tcp-flags", "--syn":
		return p.tcpFlags(option)
	case "--invert", "--validmark", "--loose", "--accept-local": // of rpfilter
		return func(*packet) truth { return yes }
	case "--rt-type":
		p.next()
		return func(*packet) truth { return no }
	case "--icmp-type", "--icmpv6-type":
		p.next()
		return func(*packet) truth { return no }
	}
	for len(p.words) > 0 && !strings.HasPrefix(p.words[0], "-") && p.words[0] != "!" { // its values
		p.next()
	}
	return nil
}

func (p *saveParser) tcpFlags(option string) predicate {
	mask, want := byte(0x17), byte(0x02) // --syn: FIN, SYN, RST and ACK, of which SYN is set
	if option == "--tcp-flags" {
		mask, want = parseFlags(p.next()), parseFlags(p.next())
	}
	return func(k *packet) truth { return truthOf(k.proto == protoTCP && k.tcpFlags()&mask == want) }
}

func parseFlags(s string) (out byte) {
	for i, name := range []string{"FIN", "SYN", "RST", "PSH", "ACK", "URG"} { // RFC 9293, section 3.1
		if s == "ALL" || strings.Contains(","+s+",", ","+name+",") {
			out |= 1 << i
		}
	}
	return out
}

func matchProto(name string) predicate {
	numbers := map[string]int{"tcp": protoTCP, "udp": protoUDP, "icmp": 1, "ipv6-icmp": 58, "icmpv6": 58, "sctp": 132, "udplite": 136, "esp": 50, "ah": 51,
		"gre": 47, "igmp": 2, "dccp": 33, "ipencap": 4, "ospf": 89, "vrrp": 112, "all": 0}
	n, ok := numbers[name]
	if !ok {
		var err error
		if n, err = strconv.Atoi(name); err != nil {
			return nil
		}
	}
	return func(p *packet) truth { return truthOf(n == 0 || int(p.proto) == n) }
}

// parsePrefix reads "10.0.0.0/8", "10.0.0.0/255.0.0.0" and single addresses.
func parsePrefix(s string) (netip.Prefix, error) {
	text, mask, ok := strings.Cut(s, "/")
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Prefix{}, err
	}
	if !ok {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	if n, err := strconv.Atoi(mask); err == nil {
		return addr.Prefix(n)
	}
	m, err := netip.ParseAddr(mask)
	if err != nil {
		return netip.Prefix{}, err
	}
	n, ended := 0, false
	for _, b := range m.AsSlice() {
		ones := bits.LeadingZeros8(^b)
		if ended && b != 0 || b<<ones != 0 {
			return netip.Prefix{}, fmt.Errorf("%q is no length of a prefix", mask)
		}
		n, ended = n+ones, ended || ones < 8
	}
	return addr.Prefix(n)
}

func parsePorts(s string) (out [][2]uint16, ok bool) {
	for part := range strings.SplitSeq(s, ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		a, err := strconv.ParseUint(first, 10, 16)
		b, err2 := strconv.ParseUint(last, 10, 16)
		if err != nil || err2 != nil {
			return nil, false
		}
		out = append(out, [2]uint16{uint16(a), uint16(b)})
	}
	return out, true
}

func parseStates(s string) predicate {
	known := map[string]uint32{"INVALID": xtInvalid, "ESTABLISHED": xtEstablished, "RELATED": xtRelated, "NEW": xtNew, "SNAT": xtSNAT, "DNAT": xtDNAT, "UNTRACKED": xtUntracked}
	var states uint32
	for name := range strings.SplitSeq(s, ",") {
		bit, ok := known[name]
		if !ok {
			return nil
		}
		states |= bit
	}
	return matchState(states, false)
}

func parseAddrType(source bool, s string) predicate {
	var mask uint16
	for name := range strings.SplitSeq(s, ",") {
		for bit, known := range []string{"UNSPEC", "UNICAST", "LOCAL", "BROADCAST", "ANYCAST", "MULTICAST", "BLACKHOLE", "UNREACHABLE", "PROHIBIT"} {
			if name == known {
				mask |= 1 << bit
			}
		}
	}
	switch {
	case mask == 0:
		return nil
	case source:
		return matchAddrType(mask, 0, false, false)
	}
	return matchAddrType(0, mask, false, false)
}

func (p *saveParser) jump(isGoto bool, target string) {
	switch target {
	case "ACCEPT":
		p.d.add(decision{verdict{kind: verdictAccept}})
	case "DROP":
		p.d.add(decision{verdict{kind: verdictDrop}})
	case "RETURN":
		p.d.add(decision{verdict{kind: verdictReturn}})
	case "CONNMARK", "MARK":
		p.d.add(forgetMark{})
	default:
		if !p.d.table.names[target] {
			p.d.target(target, nil)
			return
		}
		kind := verdictJump
		if isGoto {
			kind = verdictGoto
		}
		p.d.add(decision{verdict{kind, target}})
	}
}

// forgetMark is what sets the mark to something that is not looked into.
type forgetMark struct{}

func (forgetMark) run(m *machine) truth {
	m.p.markKnown = false
	return yes
}
