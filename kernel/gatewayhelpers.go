package kernel

import (
	"fmt"

	"github.com/fairlead-net/fairlead/forward"
)

// The chains of a gateway that attach helpers.
const (
	chainHelpers     = "helpers"
	chainHelpersFrom = "helpers_from"
)

// gatewayHelpers is what has conntrack read sessions that hosts behind interfaces start, by the well-known ports of helpers:
// the objects, and the chains that attach them. They go into any table of family inet; there are as many rules as interfaces
// and protocols. It is nothing where either list is empty.
//
// The hook is before every translation, for the reason that helperObject gives, and after the one where conntrack sees the
// packet (-200). What a forward attaches comes later and finds a helper there already; it is the same, by its port.
func gatewayHelpers(helpers []forward.Helper, interfaces []string) ([]helperObject, []chain) {
	var objects []helperObject
	var rules []rule
	for _, h := range helpers {
		for _, p := range h.Protocols() {
			o := helperObject{h, p.Network}
			objects = append(objects, o)
			rules = append(rules, rule{ifProtocol(p.Network), ifToPort(p.Port), o.attach(), accept()})
		}
	}
	if len(objects) == 0 || len(interfaces) == 0 {
		return nil, nil
	}
	from := baseChain(chainHelpersFrom, "filter", hookPrerouting, priorityMangle)
	for _, name := range interfaces {
		from.rules = append(from.rules, rule{ifSessionBegins(), ifInterface(metaIIFName, name), toChain(verdictGoto, chainHelpers)})
	}
	return objects, []chain{{name: chainHelpers, rules: rules}, from}
}

// ifSessionBegins matches the packets of a session that nobody has answered yet.
func ifSessionBegins() statement {
	const state, opening = 0, 8 // NFT_CT_STATE and its bit
	return statement{"ct state new", concat(ct(state, -1, reg32), bitwise(reg32, native32(opening)), compare(reg32, cmpNeq, native32(0)))}
}

// ifToPort matches packets to a port.
func ifToPort(port uint16) statement {
	return statement{fmt.Sprintf("th dport %d", port), concat(payload(payloadTransport, 2, 2, reg32), compare(reg32, cmpEq, []byte{byte(port >> 8), byte(port)}))}
}
