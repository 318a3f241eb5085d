package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"

	"github.com/fairlead-net/fairlead/portmap/behaviour"
	"github.com/fairlead-net/fairlead/portmap/stun"
)

// A stunServer is what --stun names. No host: nobody is asked.
type stunServer struct {
	host string // a name or an address
	port uint16
}

// parseSTUN reads HOST[:PORT], also as the URI that browsers are given (RFC 7064).
func parseSTUN(text string) (stunServer, error) {
	const form = "write it like stun.example.com, 198.41.0.9:3478 or [2001:db8::9]:3478"
	rest := strings.TrimPrefix(text, "stun:")
	if strings.HasPrefix(rest, "stuns:") || strings.HasPrefix(rest, "turn:") || strings.HasPrefix(rest, "turns:") {
		return stunServer{}, usagef(form, "--stun: %s is not of a server that is asked by STUN over UDP", text)
	}
	if a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")); err == nil {
		return stunServer{a.String(), stun.Port}, nil
	}
	host, port := rest, strconv.Itoa(stun.Port)
	if strings.Contains(rest, ":") {
		var err error
		if host, port, err = net.SplitHostPort(rest); err != nil {
			return stunServer{}, usagef(form, "--stun: %w", err)
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return stunServer{}, usagef(form, "--stun: %q is no port", port)
	}
	if host == "" || strings.ContainsAny(host, " /@?#[]") {
		return stunServer{}, usagef(form, "--stun: %q names no host", text)
	}
	return stunServer{host, uint16(n)}, nil
}

// A stunReport is what came of asking by one family of addresses.
type stunReport struct {
	behaviour.Report
	name string // the server, as far as it is known
	err  error
}

// askSTUN asks the server by each family that it has and that leads to it, at once.
func askSTUN(ctx context.Context, to stunServer) []stunReport {
	name := net.JoinHostPort(to.host, strconv.Itoa(int(to.port)))
	resolving, cancel := context.WithTimeout(ctx, behaviour.MaxTime)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(resolving, "ip", to.host)
	if err != nil {
		return []stunReport{{name: name, err: fmt.Errorf("the STUN server is not found: %w", err)}}
	}
	var list, leads []stunReport
	for _, is4 := range []bool{true, false} {
		for _, a := range addrs {
			if a = a.Unmap(); a.Is4() != is4 {
				continue
			}
			at := netip.AddrPortFrom(a, to.port)
			r := stunReport{Report: behaviour.Report{Server: at}, name: at.String()}
			list = append(list, r)
			if _, err := (behaviour.System{}).Source(at); err == nil {
				leads = append(leads, r)
			}
			break
		}
	}
	if len(leads) > 0 {
		list = leads // many servers have IPv6, and many hosts have none
	}
	var asking sync.WaitGroup
	for i := range list {
		asking.Go(func() { list[i].Report, list[i].err = behaviour.Discover(ctx, behaviour.System{}, list[i].Server) })
	}
	asking.Wait()
	return list
}

// The words for what was found.
var (
	mappingWords = map[behaviour.Rule]string{
		behaviour.None:        "there is no NAT on the way",
		behaviour.Endpoint:    "one port outside, whoever it is for",
		behaviour.Address:     "another port outside for each address that is called",
		behaviour.AddressPort: "another port outside for each address and port that is called",
	}
	filterWords = map[behaviour.Rule]string{
		behaviour.Endpoint:    "whoever calls is let in",
		behaviour.Address:     "those are let in whose address was called before, from any port",
		behaviour.AddressPort: "those are let in who were called before",
	}
	hairpinWords = map[behaviour.Hairpin]string{
		behaviour.HairpinYes:      "hosts of this network reach each other by their addresses outside",
		behaviour.HairpinNo:       "hosts of this network do not reach each other by their addresses outside",
		behaviour.HairpinNeedless: "the addresses inside are those outside",
	}
	gradeWords = map[behaviour.Grade]string{
		behaviour.Open:     "everybody reaches this host by one address, as mapping and filtering say",
		behaviour.Moderate: "it has one address for everybody, but filtering lets in only whom it has called",
		behaviour.Strict:   "mapping gives it another address for everybody, so nobody can be told where it is",
	}
)

func (s stunReport) print(w io.Writer) {
	if s.err != nil {
		fmt.Fprintf(w, "STUN %s: %s\n", plain(s.name), plain(s.err.Error()))
		return
	}
	fmt.Fprintf(w, "STUN %s: %s is %s outside\n", s.name, s.Local, s.Public)
	line := func(what, word, means string) {
		if means != "" {
			word += ": " + means
		}
		fmt.Fprintf(w, "  %-10s %s\n", what, word)
	}
	line("mapping", string(s.Mapping), mappingWords[s.Mapping])
	line("filtering", string(s.Filter), filterWords[s.Filter])
	line("hairpin", string(s.Hairpin), hairpinWords[s.Hairpin])
	line("for games", string(s.Grade()), gradeWords[s.Grade()])
	if s.Missing != "" {
		fmt.Fprintln(w, "  "+s.Missing)
	}
}

// A stunEntry is stunReport in JSON.
type stunEntry struct {
	Server    string `json:"server"`
	Family    string `json:"family"`    // "ipv4", "ipv6"; "" where the name is not known
	Other     string `json:"other"`     // the address and port by which it can be had besides; "": it has none
	Local     string `json:"local"`     // a port of this host
	Public    string `json:"public"`    // where the server sees it
	Mapping   string `json:"mapping"`   // "none", "endpoint-independent", "address-dependent", "address-and-port-dependent", "unknown"
	Filtering string `json:"filtering"` // the same without "none"
	Hairpin   string `json:"hairpin"`   // "yes", "no", "needless" without NAT, "unknown"
	Grade     string `json:"grade"`     // "open", "moderate", "strict", "unknown"
	Missing   string `json:"missing"`   // why something is unknown, in words, or ""
	Problem   string `json:"problem"`   // why nothing is known, in words, or ""
}

func (s stunReport) entry() stunEntry {
	e := stunEntry{
		Server: s.name, Other: portText(s.Other), Local: portText(s.Local), Public: portText(s.Public),
		Mapping: string(behaviour.Unknown), Filtering: string(behaviour.Unknown), Hairpin: string(behaviour.HairpinUnknown),
		Grade: string(behaviour.GradeUnknown), Missing: s.Missing,
	}
	switch {
	case s.Server.Addr().Is4():
		e.Family = "ipv4"
	case s.Server.IsValid():
		e.Family = "ipv6"
	}
	if s.err != nil {
		e.Problem = s.err.Error()
		return e
	}
	e.Mapping, e.Filtering, e.Hairpin, e.Grade = string(s.Mapping), string(s.Filter), string(s.Hairpin), string(s.Grade())
	return e
}

// portText is "" for no address.
func portText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
