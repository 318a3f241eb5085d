package portmap

import (
	"errors"
	"fmt"
	"net/netip"
	"path"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// ParseRule reads "CLIENT [[tcp/|udp/|tcp+udp/]PORTS] [DESCRIPTION]". The client is an address, a network, a MAC address or *, the
// ports are external ones or *, and the description is a pattern of path.Match, whatever the case.
func ParseRule(s string) (Rule, error) {
	words := strings.Fields(s)
	if len(words) == 0 {
		return Rule{}, errors.New("a rule needs a client, or * for all of them")
	}
	var r Rule
	if err := r.parseClient(words[0]); err != nil {
		return Rule{}, err
	}
	if words = words[1:]; len(words) == 0 {
		return r, nil
	}
	if err := r.parsePorts(words[0]); err != nil {
		return Rule{}, err
	}
	if r.Describe = strings.ToLower(strings.Join(words[1:], " ")); r.Describe == "*" {
		r.Describe = ""
	}
	if _, err := path.Match(r.Describe, ""); err != nil {
		return Rule{}, fmt.Errorf("%q is no pattern; * is any text, ? one letter, [a-z] one of these", r.Describe)
	}
	return r, nil
}

func (r *Rule) parseClient(s string) error {
	if s == "*" {
		return nil
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Zone() == "" {
		addr = addr.Unmap()
		r.Client = netip.PrefixFrom(addr, addr.BitLen())
		return nil
	}
	if p, err := netip.ParsePrefix(s); err == nil && !p.Addr().Is4In6() {
		if p != p.Masked() {
			return fmt.Errorf("%s is an address within a network, not the network; write %s", s, p.Masked())
		}
		r.Client = p
		return nil
	}
	mac, err := forward.ParseMAC(s)
	if err != nil {
		return fmt.Errorf("%q is no address, network or MAC address, and not *", s)
	}
	r.MAC = mac.String()
	return nil
}

func (r *Rule) parsePorts(s string) error {
	if protocol, ports, found := strings.Cut(s, "/"); found {
		switch protocol {
		case "tcp":
			r.Networks = forward.TCP
		case "udp":
			r.Networks = forward.UDP
		case "tcp+udp":
		default:
			return fmt.Errorf("%q is neither tcp nor udp", protocol)
		}
		s = ports
	}
	ports, err := forward.ParsePorts(s)
	if err == nil && !ports.All {
		r.Ports = ports
	}
	return err
}

// String writes r the way ParseRule reads it.
func (r Rule) String() string {
	words := []string{"*"}
	switch {
	case r.MAC != "":
		words[0] = r.MAC
	case r.Client.IsSingleIP():
		words[0] = r.Client.Addr().String()
	case r.Client.IsValid():
		words[0] = r.Client.String()
	}
	ports := ""
	if r.Networks != 0 {
		ports = r.Networks.String() + "/"
	}
	if len(r.Ports.Ranges) > 0 {
		ports += r.Ports.String()
	} else if ports != "" || r.Describe != "" {
		ports += "*"
	}
	if ports != "" {
		words = append(words, ports)
	}
	if r.Describe != "" {
		words = append(words, r.Describe)
	}
	return strings.Join(words, " ")
}
