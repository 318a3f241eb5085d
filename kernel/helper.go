package kernel

import (
	"bufio"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A helperObject is what nftables calls a ct helper: a rule attaches it to a session, and conntrack then reads the session's
// packets for the further connections that they negotiate. Those are let through, translated like the session that they
// belong to, and carry a pointer to it (see session.master).
//
// It is attached by the rule that translates, before it translates: the maps of forwards with a helper are apart from the
// others, and the first map that has a packet's values decides, as ever. A rule in a chain of its own, before the
// translation, would need to know of every more specific forward that has no helper. And a helper has to be there before the
// translation, so that the kernel keeps track of what the rewriting of texts does to TCP's sequence numbers.
type helperObject struct {
	helper  forward.Helper
	network forward.Networks // one
}

// name is the object's name in the kernel.
func (o helperObject) name() string { return o.helper.String() + "_" + o.network.String() }

// protocol is what the object reads.
func (o helperObject) protocol() forward.HelperProtocol {
	all := o.helper.Protocols()
	i := slices.IndexFunc(all, func(p forward.HelperProtocol) bool { return p.Network == o.network })
	return all[max(0, i)]
}

// attach has conntrack read the session of the packet.
func (o helperObject) attach() statement {
	const kindHelper = 3 // NFT_OBJECT_CT_HELPER
	return statement{fmt.Sprintf("ct helper set %q", o.name()), expr("objref", be32(1, kindHelper), str(2, o.name()))}
}

func (o helperObject) write(out *bufio.Writer) {
	fmt.Fprintf(out, "\n\tct helper %s {\n\t\ttype %q protocol %s\n\t}\n", o.name(), o.protocol().Kernel, o.network)
}

// object is the helper of set id, and whether it has one.
func (id setID) object() (helperObject, bool) {
	return helperObject{id.helper, id.network}, id.helper != forward.HelperNone && id.isMap()
}

// helperObjects is those that the rules of sets attach, once each.
func helperObjects(sets []setID) []helperObject {
	var out []helperObject
	for _, id := range sets {
		if o, ok := id.object(); ok && !slices.Contains(out, o) {
			out = append(out, o)
		}
	}
	return out
}

// user is the name of the first forward of list that needs o, or "".
func (o helperObject) user(list iter.Seq[*forward.Forward]) string {
	for f := range list {
		if f.Helper == o.helper && f.Carry == forward.CarryKernel && f.Listen.Networks&o.network != 0 {
			return f.Name
		}
	}
	return ""
}

// A HelperError says that this kernel does not read a protocol that a forward wants to have read.
type HelperError struct {
	Helper  forward.Helper
	Network forward.Networks
	Err     error
}

func (e *HelperError) Error() string {
	msg := fmt.Sprintf("this kernel has no helper for %s over %s; load the module %s",
		e.Helper, e.Network, helperObject{e.Helper, e.Network}.protocol().Module)
	if e.Helper.InRelay() {
		msg += `, or write carry = "relay", which reads it without the kernel`
	}
	return msg + ": " + e.Err.Error()
}

func (e *HelperError) Unwrap() error { return e.Err }

// natModuleMissing is the module that translates what h reads, if the one that reads is loaded as a module and that one is
// not; modules is the text of /proc/modules. The kernel loads the first by itself when a rule asks for it, but not the
// second. Where helpers are built in, both are.
func natModuleMissing(modules string, h forward.Helper) string {
	loaded := func(module string) bool {
		for line := range strings.Lines(modules) {
			if name, _, _ := strings.Cut(line, " "); name == module {
				return true
			}
		}
		return false
	}
	reads := h.Protocols()[0].Module
	translates := strings.Replace(reads, "conntrack", "nat", 1)
	if loaded(reads) && !loaded(translates) {
		return translates
	}
	return ""
}
