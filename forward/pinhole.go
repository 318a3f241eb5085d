package forward

// IsPinhole reports whether f leads where it listens, at one address: what is for that address is let through as it is, to
// the host that has it. Whether that is another host than this one is not in the wording.
func (f *Forward) IsPinhole() bool {
	l := f.Listen
	if l.IsUnix() || f.ListensAt() != Host || f.DialsFrom() != Host || len(f.To) != 1 || !l.Addr.IsGlobalUnicast() {
		return false
	}
	t := f.To[0]
	same := t.Ports.IsZero() || !l.Ports.All && len(l.Ports.Ranges) == 1 && l.Ports.Ranges[0] == t.Ports
	return t.Addr == l.Addr && same
}

// validatePinhole refuses what a pinhole cannot be asked for: nobody but the kernel can carry it.
func (f *Forward) validatePinhole(bad func(field, format string, args ...any)) {
	if !f.IsPinhole() {
		return
	}
	reason := f.NeedsRelay()
	switch {
	case f.Carry == CarryRelay:
		reason = `carry = "relay" would have this host listen there`
	case f.Source == SourceRewrite:
		reason = "it is let through as it is, and source = \"rewrite\" would change it"
	}
	if reason != "" {
		bad("to", "listen and to are both %s: that is a pinhole, which the kernel alone can carry, but %s", f.To[0], reason)
	}
}
