package sshd

import (
	"net/netip"
	"strings"
)

// matchPattern reports whether s is what pattern says: '*' is any text and '?' any character (PATTERNS in ssh_config(5)).
func matchPattern(s, pattern string) bool {
	at, star, mark := 0, -1, 0
	i := 0
	for i < len(s) {
		switch {
		case at < len(pattern) && pattern[at] == '*':
			star, mark = at, i
			at++
		case at < len(pattern) && (pattern[at] == '?' || pattern[at] == s[i]):
			at, i = at+1, i+1
		case star >= 0:
			mark++
			at, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[at:], "*") == ""
}

// A pattern of from= in authorized_keys: a network, or text with wildcards that the address is compared with.
type sourcePattern struct {
	not    bool
	prefix netip.Prefix
	text   string
}

// parseSources reads the list of from= (sshd(8)). Names in it never match, since no address is looked up.
func parseSources(list string) ([]sourcePattern, error) {
	var patterns []sourcePattern
	for word := range strings.SplitSeq(list, ",") {
		var p sourcePattern
		if word, p.not = strings.CutPrefix(strings.TrimSpace(word), "!"); word == "" {
			return nil, errEmptyPattern
		}
		p.text = strings.ToLower(word)
		if addr, err := netip.ParseAddr(word); err == nil {
			p.prefix = netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen())
		} else if strings.Contains(word, "/") {
			if p.prefix, err = parseNetwork(word); err != nil {
				return nil, err
			}
		}
		patterns = append(patterns, p)
	}
	return patterns, nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, err
	}
	if p != p.Masked() {
		return p, errHostBits // sshd refuses these, too: what was meant is not clear
	}
	return p, nil
}

// matchSources reports whether addr is in the list and no pattern with '!' speaks against it.
func matchSources(patterns []sourcePattern, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	found := false
	for _, p := range patterns {
		matches := p.prefix.IsValid() && p.prefix.Contains(addr) || !p.prefix.IsValid() && addr.IsValid() && matchPattern(addr.String(), p.text)
		if matches && p.not {
			return false
		}
		found = found || matches
	}
	return found
}
