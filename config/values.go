package config

import (
	"errors"
	"fmt"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// An itemError is about one item of a list.
type itemError struct {
	index int
	error
}

func (e itemError) Unwrap() error { return e.error }

// withHint is an error that knows better than the key's own help what would be right.
type withHint struct {
	error
	hint string
}

func (e withHint) Unwrap() error { return e.error }

// lateHint is withHint for what takes a while to find out: of a thousand errors a few are shown.
type lateHint struct {
	error
	hint func() string
}

func (e lateHint) Unwrap() error { return e.error }

// maxClaims bounds what has to be looked up and sent to the kernel, for one forward and for a whole file: a line of ports
// times a page of networks would otherwise be billions.
const maxClaims = 1 << 20

// claims is how many claims f.Claims yields, at most.
func claims(f *forward.Forward) int {
	networks := 0
	for range f.Listen.Networks.Each {
		networks++
	}
	return max(len(f.From), 2) * max(len(f.Listen.Ports.Ranges), 1) * networks * max(len(f.Hosts), 1)
}

// parseList reads every item of a list that may be left out; none says so to somebody who wrote an empty one.
func parseList[T any](list Strings, none string, parse func(string) (T, error)) ([]T, error) {
	if list == nil {
		return nil, nil
	}
	if len(list) == 0 {
		return nil, withHint{errors.New("the list is empty"), none}
	}
	out := make([]T, len(list))
	for i, s := range list {
		var err error
		if out[i], err = parse(s); err != nil {
			return nil, itemError{i, err}
		}
	}
	return out, nil
}

// parseNetworks reads addresses and networks and puts them in order. None is what leaving the key out means.
func parseNetworks(list Strings, none string) ([]netip.Prefix, error) {
	out, err := parseList(list, "leave the key out for "+none, parseNetwork)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(out, netip.Prefix.Compare)
	return slices.Compact(out), nil
}

func parseNetwork(s string) (netip.Prefix, error) {
	if !strings.Contains(s, "/") {
		addr, err := netip.ParseAddr(s)
		switch {
		case err != nil:
			return netip.Prefix{}, fmt.Errorf("%q is neither an IP address nor a network", s)
		case addr.Zone() != "":
			return netip.Prefix{}, withHint{fmt.Errorf("%q has a zone", s), fmt.Sprintf("leave it out and set interface = %q", addr.Zone())}
		}
		addr = addr.Unmap()
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no network", s)
	}
	if a := p.Addr(); a.Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(a.Unmap(), p.Bits()-96)
	}
	if m := p.Masked(); m != p {
		return netip.Prefix{}, withHint{
			fmt.Errorf("%q is an address within a network, not the network", s),
			fmt.Sprintf("write %s, or %s for the one address", m, p.Addr()),
		}
	}
	return p, nil
}

// checkInterface holds a name to what Linux takes (dev_valid_name in net/core/dev.c) and what reads unambiguously in a rule.
func checkInterface(name string) error {
	const maxLen = 15 // IFNAMSIZ counts a closing zero
	switch {
	case name == "":
		return nil
	case len(name) > maxLen:
		return fmt.Errorf("%q is %d bytes long; the name of an interface has at most %d", name, len(name), maxLen)
	case name == "." || name == "..":
		return fmt.Errorf("%q is no name of an interface", name)
	case strings.Contains(name, "*"):
		return withHint{fmt.Errorf("%q would be several interfaces", name), "write one forward for each interface"}
	}
	for _, r := range name {
		if !strconv.IsPrint(r) || strings.ContainsRune(" /:\"\\", r) {
			return fmt.Errorf("%q has a %q, which no interface has in its name", name, r)
		}
	}
	return nil
}

type unit struct {
	name string
	bits int64
}

// units are the units of a bandwidth, those that FormatBandwidth prefers first.
func units() []unit {
	return []unit{
		{"Gbit", 1e9}, {"Mbit", 1e6}, {"kbit", 1e3}, {"B", 8}, {"bit", 1}, {"Kbit", 1e3}, {"Tbit", 1e12},
		{"kB", 8e3}, {"KB", 8e3}, {"MB", 8e6}, {"GB", 8e9}, {"TB", 8e12}, {"KiB", 8 << 10}, {"MiB", 8 << 20}, {"GiB", 8 << 30},
	}
}

// ParseBandwidth reads bits or bytes a second, such as "10Mbit", "1.5MB" or "512kB/s", as bytes a second. k, M, G and T are
// powers of 1000, Ki, Mi and Gi of 1024. "" is 0, no limit.
func ParseBandwidth(s string) (int64, error) {
	if s == "" {
		return 0, nil
	}
	end := strings.LastIndexAny(s, "0123456789.") + 1
	number, name := s[:end], strings.TrimSuffix(strings.TrimSpace(s[end:]), "/s")
	if strings.Trim(number, "0123456789.") != "" || strings.Count(number, ".") > 1 || len(number) > 20 || strings.Trim(number, ".") != number || number == "" {
		return 0, fmt.Errorf("%q does not begin with a plain number", s)
	}
	if name == "" {
		return 0, withHint{fmt.Errorf("%q has no unit", s), fmt.Sprintf("write %q for bits or %q for bytes a second", number+"bit", number+"B")}
	}
	all := units()
	at := slices.IndexFunc(all, func(u unit) bool { return u.name == name })
	if at < 0 {
		return 0, fmt.Errorf("%q is no unit of bandwidth", name)
	}
	amount, ok := new(big.Rat).SetString(number)
	if !ok {
		return 0, fmt.Errorf("%q does not begin with a plain number", s)
	}
	amount.Mul(amount, big.NewRat(all[at].bits, 8))
	bytes := new(big.Int).Quo(amount.Num(), amount.Denom())
	switch {
	case bytes.Sign() == 0:
		return 0, withHint{fmt.Errorf("%q is less than a byte a second", s), "leave the key out for no limit"}
	case bytes.Cmp(big.NewInt(1e15)) > 0:
		return 0, withHint{fmt.Errorf("%q is more than any network carries", s), "leave the key out for no limit"}
	}
	return bytes.Int64(), nil
}

// FormatBandwidth writes bytes a second the way ParseBandwidth reads them, without loss and with as few digits as that takes.
func FormatBandwidth(bytes int64) string {
	for _, u := range units() {
		if bits := bytes * 8; bits%u.bits == 0 {
			return strconv.FormatInt(bits/u.bits, 10) + u.name
		}
	}
	return strconv.FormatInt(bytes, 10) + "B"
}
