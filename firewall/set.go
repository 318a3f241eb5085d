package firewall

import (
	"bytes"
	"slices"
)

// A set is a set or map of nftables with its elements.
type set struct {
	name     string
	keyLen   int
	interval bool
	fields   []int // how long each field of a concatenation of intervals is, padded; nil: it is none
	changes  bool  // packets add elements
	opaque   bool  // what it has is not known: it is too large to be read, or packets change it
	exact    map[string]element
	ranges   []span // sorted by from where it is no concatenation
	fallback *element
}

// An element is what a set yields for a key.
type element struct {
	data    []byte
	verdict verdict
}

type span struct {
	from, to []byte // inclusive
	element
}

// An entry is an element as the kernel lists it.
type entry struct {
	key, keyEnd []byte
	end         bool // it is the first key beyond an interval
	catchall    bool
	element
}

// fill takes the elements as the kernel lists them.
func (s *set) fill(entries []entry) {
	s.exact = map[string]element{}
	if !s.interval {
		for _, e := range entries {
			if e.catchall {
				s.fallback = &e.element
			} else {
				s.exact[string(e.key)] = e.element
			}
		}
		return
	}
	if s.fields != nil {
		for _, e := range entries {
			if e.keyEnd == nil {
				e.keyEnd = e.key
			}
			s.addSpan(e, e.keyEnd)
		}
		return
	}
	entries = slices.Clone(entries)
	// Two entries of one key are the end of an interval and the begin of the next.
	slices.SortStableFunc(entries, func(a, b entry) int {
		if n := bytes.Compare(a.key, b.key); n != 0 || a.end == b.end {
			return n
		}
		if a.end {
			return -1
		}
		return 1
	})
	for i, e := range entries {
		if e.catchall {
			s.fallback = &e.element
			continue
		}
		if e.end {
			continue
		}
		last := bytes.Repeat([]byte{0xff}, len(e.key))
		if i+1 < len(entries) {
			last = before(entries[i+1].key)
		}
		s.addSpan(e, last)
	}
}

func (s *set) addSpan(e entry, to []byte) {
	if e.catchall {
		s.fallback = &e.element
		return
	}
	if len(e.key) == s.keyLen && len(to) == s.keyLen {
		s.ranges = append(s.ranges, span{e.key, to, e.element})
	} else {
		s.opaque = true
	}
}

// before is the number before b, in network order.
func before(b []byte) []byte {
	out := bytes.Clone(b)
	for i := len(out) - 1; i >= 0; i-- {
		out[i]--
		if out[i] != 0xff {
			break
		}
	}
	return out
}

func (s *set) find(key []byte) (element, bool) {
	if e, ok := s.exact[string(key)]; ok {
		return e, true
	}
	if s.fields != nil {
		for _, r := range s.ranges {
			if r.hasEach(key, s.fields) {
				return r.element, true
			}
		}
	} else if len(s.ranges) > 0 {
		at, exact := slices.BinarySearchFunc(s.ranges, key, func(r span, key []byte) int { return bytes.Compare(r.from, key) })
		if !exact {
			at--
		}
		if at >= 0 && bytes.Compare(key, s.ranges[at].to) <= 0 {
			return s.ranges[at].element, true
		}
	}
	if s.fallback != nil {
		return *s.fallback, true
	}
	return element{}, false
}

// hasEach compares field by field.
func (r span) hasEach(key []byte, fields []int) bool {
	at := 0
	for _, n := range fields {
		end := at + n
		if n <= 0 || end > len(key) || bytes.Compare(key[at:end], r.from[at:end]) < 0 || bytes.Compare(key[at:end], r.to[at:end]) > 0 {
			return false
		}
		at = end
	}
	return at == len(key)
}
