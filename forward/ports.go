package forward

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Range is the ports First to Last, both included. The zero Range is no port.
type Range struct{ First, Last uint16 }

// IsZero reports whether r names no port.
func (r Range) IsZero() bool { return r == Range{} }

// Count is the number of ports in r.
func (r Range) Count() int {
	if r.IsZero() {
		return 0
	}
	return int(r.Last) - int(r.First) + 1
}

// Contains reports whether port is in r.
func (r Range) Contains(port uint16) bool { return r.First <= port && port <= r.Last && !r.IsZero() }

func (r Range) String() string {
	if r.First == r.Last {
		return strconv.Itoa(int(r.First))
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

// Ports is a set of ports: every one that nobody else claims, or ranges in ascending order that neither overlap nor touch
// a port twice.
type Ports struct {
	All    bool
	Ranges []Range
}

// ParsePorts reads "80", "8000-8010", "80,443,8000-8010" or "*".
func ParsePorts(s string) (Ports, error) {
	if s == "*" {
		return Ports{All: true}, nil
	}
	if s == "" {
		return Ports{}, errors.New("the port is missing; write one, such as 8080, a range 8000-8010, a list 80,443 or *")
	}
	var p Ports
	for item := range strings.SplitSeq(s, ",") {
		r, err := parseRange(strings.TrimSpace(item))
		if err != nil {
			return Ports{}, err
		}
		p.Ranges = append(p.Ranges, r)
	}
	slices.SortFunc(p.Ranges, func(a, b Range) int { return int(a.First) - int(b.First) })
	for i := 1; i < len(p.Ranges); i++ {
		if p.Ranges[i].First <= p.Ranges[i-1].Last {
			return Ports{}, fmt.Errorf("port %d stands in the list twice (%s and %s)", p.Ranges[i].First, p.Ranges[i-1], p.Ranges[i])
		}
	}
	return p, nil
}

func parseRange(s string) (Range, error) {
	first, last, isRange := strings.Cut(s, "-")
	a, err := parsePort(first)
	if err != nil {
		return Range{}, err
	}
	if !isRange {
		return Range{a, a}, nil
	}
	b, err := parsePort(last)
	if err != nil {
		return Range{}, err
	}
	if b < a {
		return Range{}, fmt.Errorf("the range %s runs backwards; write %d-%d", s, b, a)
	}
	return Range{a, b}, nil
}

func parsePort(s string) (uint16, error) {
	for _, c := range []byte(s) {
		if c < '0' || c > '9' { // ParseUint would also take a sign
			return 0, fmt.Errorf("%q is no port; ports are numbers from 1 to 65535", s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	switch {
	case errors.Is(err, strconv.ErrRange):
		return 0, fmt.Errorf("port %s is too large; ports are numbers from 1 to 65535", s)
	case err != nil:
		return 0, fmt.Errorf("%q is no port; ports are numbers from 1 to 65535", s)
	case n == 0:
		return 0, errors.New("port 0 cannot be listened on or dialled; ports are numbers from 1 to 65535")
	}
	return uint16(n), nil
}

// Count is the number of ports in p; for All it is 65535.
func (p Ports) Count() int {
	if p.All {
		return 65535
	}
	n := 0
	for _, r := range p.Ranges {
		n += r.Count()
	}
	return n
}

// Each calls yield for every port of p, ascending. It must not be used on All.
func (p Ports) Each(yield func(uint16) bool) {
	for _, r := range p.Ranges {
		for port := int(r.First); port <= int(r.Last); port++ {
			if !yield(uint16(port)) {
				return
			}
		}
	}
}

// Contains reports whether port is in p.
func (p Ports) Contains(port uint16) bool {
	return p.All || slices.ContainsFunc(p.Ranges, func(r Range) bool { return r.Contains(port) })
}

// Equal reports whether p and q are the same ports, written the same way.
func (p Ports) Equal(q Ports) bool { return p.All == q.All && slices.Equal(p.Ranges, q.Ranges) }

func (p Ports) String() string {
	if p.All {
		return "*"
	}
	items := make([]string, len(p.Ranges))
	for i, r := range p.Ranges {
		items[i] = r.String()
	}
	return strings.Join(items, ",")
}

// offset is the place of port in the first range of p, from 0.
func (p Ports) offset(port uint16) uint16 {
	if len(p.Ranges) == 0 {
		return 0
	}
	return port - p.Ranges[0].First
}

func (p Ports) overlaps(r Range) bool {
	return slices.ContainsFunc(p.Ranges, func(q Range) bool { return q.First <= r.Last && r.First <= q.Last })
}
