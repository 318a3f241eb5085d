package table

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
)

// A Decision is what the planner makes of one forward on one host.
type Decision struct {
	Carry forward.Carry // never CarryAuto, unless Err is set
	Why   string        // in plain words
	Note  string        // what the operator should know of how it is carried, or ""
	Err   error         // it cannot be carried as it was asked for on this host; another day it may
}

// Plan picks the carrier for f and says why. It depends on nothing but its arguments.
func Plan(f *forward.Forward, facts kernel.Facts) Decision {
	if f.IsPinhole() && facts.IsLocal(f.Listen.Addr) {
		return Decision{Err: fmt.Errorf("listen and to are both %s, an address of this host: the forward would lead to itself", f.To[0])}
	}
	why := needsRelay(f, facts)
	if why == "" {
		return planKernel(f, facts)
	}
	if only := needsKernel(f); only != "" {
		return Decision{Why: why, Err: fmt.Errorf("%s needs the kernel to carry it, but %s", only, why)}
	}
	if f.Source == forward.SourceKeep {
		return planKeep(f, facts, why)
	}
	return Decision{Carry: forward.CarryRelay, Why: why}
}

// planKeep has the relay carry f with its clients' addresses, for which it takes the kernel's help.
func planKeep(f *forward.Forward, facts kernel.Facts, why string) Decision {
	cannot := facts.Unusable
	if cannot == "" {
		cannot = f.RelayCannotKeep()
	}
	for _, t := range f.To {
		if cannot == "" && t.Addr.IsValid() && facts.IsLocal(t.Addr) {
			cannot = fmt.Sprintf("target %s is an address of this host; its answers to a client's address would leave past the relay", t)
		}
	}
	if cannot != "" {
		return Decision{Why: why, Err: fmt.Errorf(`source = "keep" is impossible here: %s`, cannot)}
	}
	note := "the target sees the client's address (source = keep), so its way back to clients has to lead through this host"
	to := f.To[0].Addr
	unlike := func(t forward.Target) bool { return !t.Addr.IsValid() || t.Addr.Is4() != to.Is4() }
	if !f.Listen.Addr.IsValid() && len(f.From) == 0 && !slices.ContainsFunc(f.To, unlike) {
		refused := "IPv6"
		if to.Is6() {
			refused = "IPv4"
		}
		note += "; " + refused + " clients are refused, since the address could not be kept"
	}
	return Decision{Carry: forward.CarryRelay, Why: why, Note: note}
}

// needsKernel names what f asks for that the relay cannot give, or "".
func needsKernel(f *forward.Forward) string {
	switch {
	case f.IsPinhole():
		return "a pinhole"
	case f.Listen.Ports.All:
		return `listen = "*"`
	case f.Carry == forward.CarryKernel:
		return `carry = "kernel"`
	case f.Helper != forward.HelperNone && !f.Helper.InRelay():
		return fmt.Sprintf("helper = %q", f.Helper)
	}
	return ""
}

// keepsTurn is what the kernel carrier does not do for several targets.
const keepsTurn = "a target that does not answer keeps its share of the sessions; carry = \"relay\" would go on to the next one"

const noTranslation = "the kernel does not translate between IPv4 and IPv6"

// needsRelay says why the kernel of this host cannot carry f, or should not, or "".
func needsRelay(f *forward.Forward, facts kernel.Facts) string {
	if why := f.NeedsRelay(); why != "" {
		return why
	}
	if f.Carry == forward.CarryRelay {
		return "asked for by carry"
	}
	if facts.Unusable != "" {
		return facts.Unusable
	}
	if f.Helper.InRelay() && slices.Contains(facts.Unread, f.Helper) { // else the kernel's own words are the reason why it fails
		return fmt.Sprintf("this kernel has no helper for %s", f.Helper)
	}
	to := f.To[0].Addr // NeedsRelay has left addresses of one family or a port of this host
	if !to.IsValid() {
		return ""
	}
	sameFamily := func(p netip.Prefix) bool { return p.Addr().Is4() == to.Is4() }
	if len(f.From) > 0 && !slices.ContainsFunc(f.From, sameFamily) {
		return noTranslation
	}
	if facts.Routes(to) || allLocal(f, facts) {
		return ""
	}
	if to.Is4() {
		return "this host does not forward packets (net.ipv4.ip_forward is 0)"
	}
	return "this host does not forward packets (net.ipv6.conf.all.forwarding is 0)"
}

// allLocal reports whether every target is an address of this host.
func allLocal(f *forward.Forward, facts kernel.Facts) bool {
	return !slices.ContainsFunc(f.To, func(t forward.Target) bool { return !facts.IsLocal(t.Addr) })
}

func planKernel(f *forward.Forward, facts kernel.Facts) Decision {
	d := Decision{Carry: forward.CarryKernel, Why: "plain host to host"}
	to := f.To[0].Addr
	if f.IsPinhole() {
		d.Why = "pinhole: let through untranslated"
		d.Note = "the target sees the client's address; its answers have to lead through this host"
		return d
	}
	if !to.IsValid() {
		d.Why = "plain redirect on this host"
		d.Note = "the program has to listen on the addresses that clients use, not on 127.0.0.1 alone"
		return d
	}
	var notes []string
	if allLocal(f, facts) {
		d.Why = "plain redirect on this host"
	}
	for _, t := range f.To {
		if facts.IsLocal(t.Addr) {
			continue
		}
		if note := sourceNote(f, t.Addr, facts); !slices.Contains(notes, note) {
			notes = append(notes, note)
		}
	}
	if len(f.To) > 1 {
		notes = append(notes, keepsTurn)
	}
	if !f.Listen.Addr.IsValid() { // asked for every address, of both families
		if to.Is4() {
			notes = append(notes, "the kernel carries IPv4 clients only, to an IPv4 target")
		} else {
			notes = append(notes, "the kernel carries IPv6 clients only, to an IPv6 target")
		}
	}
	d.Note = strings.Join(notes, "; ")
	return d
}

// sourceNote says which address a target on another host sees. With source = "auto" the kernel's rule rewrites it exactly
// for clients that come in by the interface by which the target is reached: the target could answer those directly, past
// this host, and they would not know the answer.
func sourceNote(f *forward.Forward, to netip.Addr, facts kernel.Facts) string {
	switch f.Source {
	case forward.SourceRewrite:
		return "the target sees an address of this host (source = rewrite)"
	case forward.SourceKeep:
		return "the target sees the client's address (source = keep)"
	}
	egress, byDefault := facts.Egress(to), facts.Default4
	if to.Is6() {
		byDefault = facts.Default6
	}
	switch {
	case egress == "" || f.Interface != "" && f.Interface != egress: // no client comes in there
		return "the target sees the client's address"
	case egress == byDefault || egress == f.Interface:
		return "source rewritten for clients that come in by " + egress + ", so that replies come back: the target is reached by the same interface"
	}
	return "the target sees the client's address; clients on " + egress + " itself are rewritten (hairpin)"
}
