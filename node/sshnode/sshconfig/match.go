package sshconfig

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// matches is one Match line. Every criterion must hold; what is not known does not.
func (e *evaluator) matches(p place, args []string) (bool, error) {
	result, attributes := true, 0
	for len(args) > 0 {
		word, negated := strings.CutPrefix(args[0], "!")
		word, arg, joined := strings.Cut(word, "=")
		word = strings.ToLower(word)
		args = args[1:]
		holds := false
		switch word {
		case "all":
			if attributes > 1 || len(args) > 0 {
				return false, p.fail("Match all", errors.New("it stands alone, or after canonical or final"))
			}
			return result && !negated, nil
		case "canonical", "final":
			attributes++
			e.again = e.again || word == "final"
			result = result && e.final != negated
			continue
		}
		attributes++
		if !joined {
			if len(args) == 0 {
				return false, p.fail("Match "+word, errors.New("what it is to be is missing"))
			}
			arg, args = args[0], args[1:]
		}
		known := true
		if result { // a command is run only if it may decide something
			var err error
			if holds, known, err = e.criterion(p, word, arg); err != nil {
				return false, err
			}
		}
		result = result && known && holds != negated
	}
	if attributes == 0 {
		return false, p.fail("Match", errors.New("it needs a criterion, such as host or all"))
	}
	return result, nil
}

// criterion is one criterion with its argument, and whether it is one that we know.
func (e *evaluator) criterion(p place, word, arg string) (holds, known bool, err error) {
	host, err := e.hostname()
	if err != nil {
		return false, false, err
	}
	tokens := e.tokens(host)
	one := func(keyword string) string {
		if s, ok := e.one[keyword]; ok {
			return s.args[0]
		}
		return ""
	}
	switch word {
	case "host":
		return MatchList(strings.ToLower(host), strings.ToLower(arg)), true, nil
	case "originalhost":
		return MatchList(strings.ToLower(e.original), strings.ToLower(arg)), true, nil
	case "user":
		return MatchList(tokens['r'], arg), true, nil
	case "localuser":
		return MatchList(e.machine.User, arg), true, nil
	case "tagged":
		return MatchList(one("tag"), arg), true, nil
	case "command":
		return MatchList(one("remotecommand"), arg), true, nil
	case "sessiontype":
		if _, said := e.one["sessiontype"]; !said {
			e.note(p, "Match sessiontype", "what kind of session it will be is not known here")
			return false, false, nil
		}
		return MatchList(strings.ToLower(one("sessiontype")), arg), true, nil
	case "localnetwork":
		holds, err := e.machine.onNetwork(arg)
		if err != nil {
			return false, false, p.fail("Match localnetwork", err)
		}
		return holds, true, nil
	case "exec":
		if e.Exec == nil {
			e.note(p, "Match exec", "commands are not run here; the block does not hold")
			return false, false, nil
		}
		command, err := expand(arg, tokens, nil)
		if err != nil {
			return false, false, p.fail("Match exec", err)
		}
		return e.Exec(command), true, nil
	}
	e.note(p, "Match "+word, "this criterion is not known; the block does not hold")
	return false, false, nil
}

// onNetwork reports whether this machine has an address in one of the networks of a list with commas.
func (m *Machine) onNetwork(list string) (bool, error) {
	found := false
	for one := range strings.SplitSeq(list, ",") {
		one, negated := strings.CutPrefix(one, "!")
		prefix, err := netip.ParsePrefix(one)
		if err != nil {
			addr, err := netip.ParseAddr(one)
			if err != nil {
				return false, fmt.Errorf("%q is no network; write it like 192.0.2.0/24", one)
			}
			prefix = netip.PrefixFrom(addr, addr.BitLen())
		}
		for _, addr := range m.Addrs() {
			if prefix.Contains(addr.Unmap().WithZone("")) {
				if negated {
					return false, nil
				}
				found = true
			}
		}
	}
	return found, nil
}
