package kernel

import (
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"bufio"
)

// WriteNFT writes rs in the language of nft(8), ready for "nft -f".
func (rs *Ruleset) WriteNFT(w io.Writer) error {
	out := bufio.NewWriter(w)
	fmt.Fprintf(out, "table inet %s {\n\tcomment %q\n\n", rs.table, layout)
	fmt.Fprintf(out, "\tset %s {\n\t\ttype ifname . ifname\n", sameInterfaces)
	pairs := make([]string, len(rs.interfaces))
	for i, name := range rs.interfaces {
		pairs[i] = fmt.Sprintf("%q . %q", name, name)
	}
	writeElements(out, pairs)
	fmt.Fprintf(out, "\t}\n")
	for _, o := range helperObjects(rs.sets) {
		o.write(out)
	}
	for _, id := range rs.sets {
		writeSet(out, id, rs.elements[id])
	}
	for _, c := range chains(rs.sets) {
		writeChain(out, c)
	}
	fmt.Fprintf(out, "}\n")
	return out.Flush()
}

func writeSet(out *bufio.Writer, id setID, elements []element) {
	kind, word, types := "set", "type", typeNames
	if slices.Contains(id.key(), fieldSlot) {
		word, types = "typeof", typeExpressions
	}
	declared := types(id, id.key())
	if id.isMap() {
		kind, declared = "map", declared+" : "+types(id, id.data())
	}
	fmt.Fprintf(out, "\n\t%s %s {\n\t\t%s %s\n", kind, id.name(), word, declared)
	if size := id.capacity(len(elements)); size > 0 {
		fmt.Fprintf(out, "\t\tsize %d\n", size)
	}
	if id.interval() {
		fmt.Fprintf(out, "\t\tflags interval\n")
	}
	if id.role.learned() {
		fmt.Fprintf(out, "\t\tflags dynamic,timeout\n\t\ttimeout %ds\n", int(learnedTimeout.Seconds()))
	}
	if id.counts() {
		fmt.Fprintf(out, "\t\tcounter\n")
	}
	items := make([]string, len(elements))
	for i, e := range elements {
		items[i] = elementText(e)
	}
	writeElements(out, items)
	fmt.Fprintf(out, "\t}\n")
}

func writeElements(out *bufio.Writer, items []string) {
	if len(items) > 0 {
		fmt.Fprintf(out, "\t\telements = {\n\t\t\t%s\n\t\t}\n", strings.Join(items, ",\n\t\t\t"))
	}
}

func writeChain(out *bufio.Writer, c chain) {
	fmt.Fprintf(out, "\n\tchain %s {\n", c.name)
	if c.kind != "" {
		fmt.Fprintf(out, "\t\ttype %s hook %s priority %d; policy accept;\n", c.kind, c.hook, c.priority)
	}
	for _, r := range c.rules {
		words := make([]string, len(r))
		for i, s := range r {
			words[i] = s.text
		}
		fmt.Fprintf(out, "\t\t%s\n", strings.Join(words, " "))
	}
	fmt.Fprintf(out, "\t}\n")
}

func typeNames(id setID, fields []field) string {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = id.dataType(f).name
	}
	return strings.Join(names, " . ")
}

func typeExpressions(id setID, fields []field) string {
	texts := make([]string, len(fields))
	for i, f := range fields {
		texts[i] = id.typeOf(f).text
	}
	return strings.Join(texts, " . ")
}

func elementText(e element) string {
	text := valueText(e.set, e.set.key(), e.key, e.keyEnd) + fmt.Sprintf(" comment %q", e.owner)
	if e.data != nil {
		text += " : " + valueText(e.set, e.set.data(), e.data, nil)
	}
	return text
}

// valueText writes concatenated fields, with the range to end where end is given and differs.
func valueText(id setID, fields []field, value, end []byte) string {
	parts := make([]string, len(fields))
	for i, f := range fields {
		size := id.dataType(f).size
		parts[i] = id.fieldText(f, value[:size])
		if end != nil {
			if last := id.fieldText(f, end[:size]); last != parts[i] {
				parts[i] += "-" + last
			}
			end = end[pad4(size):]
		}
		value = value[pad4(size):]
	}
	return strings.Join(parts, " . ")
}

func (id setID) fieldText(f field, b []byte) string {
	switch f {
	case fieldInterface:
		return fmt.Sprintf("%q", strings.TrimRight(string(b), "\x00"))
	case fieldDirection:
		return directionNames[b[0]]
	case fieldProtocol:
		if b[0] == protoUDP {
			return "udp"
		}
		return "tcp"
	case fieldPort, fieldSourcePort:
		return fmt.Sprint(binary.BigEndian.Uint16(b))
	case fieldSlot:
		return fmt.Sprint(id.slotOrder().Uint32(b))
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr.String()
}
