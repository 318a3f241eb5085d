package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Attributes of policy rules (linux/fib_rules.h).
const (
	fraIIFName  = 3
	fraGoto     = 4
	fraPriority = 6
	fraMark     = 10
	fraTable    = 15
	fraMask     = 16
	fraProtocol = 21
)

// loIndex is the number of the loopback interface in every network namespace (include/net/flow.h, LOOPBACK_IFINDEX).
const loIndex = 1

// A policyRule is one line of `ip rule`.
type policyRule struct {
	priority uint32
	action   byte
	attrs    []byte // beyond priority and protocol
}

// keepRules is the policy rules, in the order in which they are added; they go the other way round. Marked packets go to
// the table, except those that this host sends itself. So a mark that another program gives its own packets does no harm,
// and the kernel's check of where packets come from, which asks for the way back as if it were to send there, does not
// look into the table either, whatever rp_filter and src_valid_mark say.
func keepRules() []policyRule {
	marked := concat(native(fraMark, KeepMark), native(fraMask, KeepMark))
	return []policyRule{
		{priority: keepResumePriority, action: unix.FR_ACT_NOP},
		{priority: keepSkipPriority, action: unix.FR_ACT_GOTO, attrs: concat(str(fraIIFName, "lo"), marked, native(fraGoto, keepResumePriority))},
		{priority: keepLookupPriority, action: unix.FR_ACT_TO_TBL, attrs: concat(marked, native(fraTable, KeepRoutes))},
	}
}

func native(kind uint16, v uint32) []byte { return attr(kind, native32(v)) }

// message is what follows the first four bytes of the header (family, destination's, source's length, TOS) of struct
// fib_rule_hdr: table, two reserved, action, flags.
func (r policyRule) message() []byte {
	return concat([]byte{unix.RT_TABLE_UNSPEC, 0, 0, r.action}, native32(0),
		native(fraPriority, r.priority), attr(fraProtocol, []byte{KeepProtocol}), r.attrs)
}

// keepRoute is the one route of the table, to everywhere: what follows the first four bytes of struct rtmsg.
func keepRoute() []byte {
	return concat([]byte{unix.RT_TABLE_UNSPEC, KeepProtocol, unix.RT_SCOPE_HOST, unix.RTN_LOCAL}, native32(0),
		native(unix.RTA_TABLE, KeepRoutes), native(unix.RTA_OIF, loIndex))
}

// keepFamilies is the address families, with a note on whether a host may lack it.
var keepFamilies = [...]struct {
	number   byte
	optional bool
}{{unix.AF_INET, false}, {unix.AF_INET6, true}}

// addKeepRouting adds what is missing of the rules and routes, and reports whether anything was.
func addKeepRouting(s *nlSocket) (added bool, err error) {
	for _, family := range keepFamilies {
		more, err := addKeepFamily(s, family.number)
		switch {
		case err != nil && family.optional && absent(err):
		case err != nil:
			return added, err
		}
		added = added || more
	}
	return added, nil
}

func addKeepFamily(s *nlSocket, family byte) (added bool, err error) {
	const create = unix.NLM_F_CREATE | unix.NLM_F_EXCL | unix.NLM_F_ACK // said here, because EXCL has a bit of NLM_F_DUMP's
	err = s.request("add a local route", unix.RTM_NEWROUTE, create, family, keepRoute(), nil)
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return false, err
	}
	added = err == nil
	there, err := ownRules(s, family)
	if err != nil {
		return added, err
	}
	for _, r := range keepRules() {
		if there[r.priority] {
			continue
		}
		if err := s.request("add a policy rule", unix.RTM_NEWRULE, create, family, r.message(), nil); err != nil {
			return added, err
		}
		added = true
	}
	return added, nil
}

// dropKeepRouting takes away what is there of the rules and routes.
func dropKeepRouting(s *nlSocket) error {
	var errs []error
	for _, family := range keepFamilies {
		if err := dropKeepFamily(s, family.number); err != nil && !(family.optional && absent(err)) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func dropKeepFamily(s *nlSocket, family byte) error {
	there, err := ownRules(s, family)
	if err != nil {
		return err
	}
	rules := keepRules()
	for i := range rules {
		r := rules[len(rules)-1-i]
		if !there[r.priority] {
			continue
		}
		if err := s.request("delete a policy rule", unix.RTM_DELRULE, 0, family, r.message(), nil); err != nil && !errors.Is(err, unix.ENOENT) {
			return err
		}
	}
	err = s.request("delete a local route", unix.RTM_DELROUTE, 0, family, keepRoute(), nil)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.ENOENT) {
		return nil
	}
	return err
}

// absent reports whether err says that this host lacks the address family, or has it switched off.
func absent(err error) bool {
	for _, errno := range []error{unix.EAFNOSUPPORT, unix.EOPNOTSUPP, unix.EACCES, unix.ENODEV} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// ownRules is the priorities of the policy rules that bear our protocol.
func ownRules(s *nlSocket, family byte) (map[uint32]bool, error) {
	own := map[uint32]bool{}
	header := make([]byte, 8) // of struct fib_rule_hdr, after the family
	err := s.dump("list policy rules", unix.RTM_GETRULE, family, header, func() { clear(own) }, func(b []byte) error {
		priority, protocol, err := parseRule(b)
		if err == nil && protocol == KeepProtocol {
			own[priority] = true
		}
		return err
	})
	return own, err
}

// parseRule reads the priority and protocol of a policy rule, without the first four bytes of its header.
func parseRule(b []byte) (priority uint32, protocol byte, err error) {
	const rest = 8
	if len(b) < rest {
		return 0, 0, fmt.Errorf("netlink: a policy rule of %d bytes is cut short", len(b))
	}
	eachAttr(b[rest:], func(kind uint16, value []byte) {
		switch {
		case kind == fraPriority && len(value) == 4:
			priority = binary.NativeEndian.Uint32(value)
		case kind == fraProtocol && len(value) == 1:
			protocol = value[0]
		}
	})
	return priority, protocol, nil
}
