package sshconfig

import "strings"

// MatchPattern reports whether s is what pattern says, in which "*" is any text and "?" any one byte (ssh_config(5),
// PATTERNS). Case matters.
func MatchPattern(s, pattern string) bool {
	// The classic walk with one way back: a later "*" makes an earlier one moot, so that no pattern takes exponential time.
	i, j, star, from := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case j < len(pattern) && pattern[j] == '*':
			star, from = j, i
			j++
		case j < len(pattern) && (pattern[j] == '?' || pattern[j] == s[i]):
			i++
			j++
		case star >= 0:
			from++
			i, j = from, star+1
		default:
			return false
		}
	}
	return strings.Trim(pattern[j:], "*") == ""
}

// MatchList reports whether one of the patterns of a list with commas matches s, and none with a "!" before it.
func MatchList(s, list string) bool {
	found := false
	for pattern := range strings.SplitSeq(list, ",") {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if MatchPattern(s, pattern) {
			if negated {
				return false
			}
			found = true
		}
	}
	return found
}

// matchHosts is one Host line.
func matchHosts(host string, patterns []string) bool {
	found := false
	for _, pattern := range patterns {
		pattern, negated := strings.CutPrefix(pattern, "!")
		if MatchPattern(host, pattern) {
			if negated {
				return false
			}
			found = true
		}
	}
	return found
}
