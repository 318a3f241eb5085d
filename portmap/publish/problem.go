package publish

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/fairlead-net/fairlead/portmap"
)

// A Kind is what keeps a port from being reached from outside, for those who decide by it.
type Kind uint8

// The kinds of problems. Those further down say more about what is wrong than those above: of several the last is shown.
const (
	KindNone       Kind = iota
	KindNoGateway       // this host has no default route
	KindSilent          // the gateway speaks none of the protocols: it cannot, or its owner has switched them off
	KindFailed          // something else went wrong; the words say what
	KindFull            // the gateway has no room for more mappings
	KindConflict        // the port is somebody else's; another one was taken, or all that were tried are taken
	KindNoExternal      // the gateway has no address outside itself
	KindDisabled        // the gateway says that its owner has switched port mapping off
	KindDenied          // the gateway does not let this host have the port
	KindDoubleNAT       // the gateway's own address is private: there is another gateway beyond, which cannot be asked
	KindCGNAT           // the same, and the one beyond is the provider's
	KindLocal           // the port is listened on where no gateway can lead to
)

// kindWords are for machines: they do not change.
var kindWords = [...]string{"", "no-gateway", "silent", "failed", "full", "conflict", "no-external", "disabled", "denied", "double-nat", "cgnat", "local"}

func (k Kind) String() string { return kindWords[k] }

// A Problem is what is wrong in words for a person, and what may help. A mapping may stand all the same: on another port, or where
// only a part of the world reaches it.
type Problem struct {
	Kind    Kind
	Gateway netip.Addr // who has it; invalid: nobody in particular
	Text    string     // lower case, one sentence, no period
	Hint    string     // what to do; "": nothing is known to help
	Taken   uint16     // of KindConflict: the port that was taken instead, 0 for none
}

func (p *Problem) Error() string { return p.Text }

// A refusal is a gateway's no. It is an error of one attempt; a Problem is made of those that are left in the end.
type refusal struct {
	kind     Kind
	protocol portmap.Protocol
	code     int    // of the protocol; 0 where there was none
	text     string // what it means
}

func (r *refusal) Error() string {
	if r.code == 0 {
		return fmt.Sprintf("%s: %s", r.protocol, r.text)
	}
	return fmt.Sprintf("%s: %s (%d)", r.protocol, r.text, r.code)
}

// The hints.
const (
	hintSilent   = "switch on UPnP, NAT-PMP or PCP in the settings of the gateway, or forward the port there by hand"
	hintDisabled = "switch on UPnP, NAT-PMP or PCP in the settings of the gateway"
	hintDenied   = "another external port may be allowed; else its settings say who may open ports"
	hintCGNAT    = "ask the provider for a public IPv4 address, use IPv6, or let a server outside listen: a forward with `at`, or `fairlead ssh -R`"
	hintDouble   = "switch the outer gateway to bridge mode, forward the port there by hand, or switch on its UPnP or NAT-PMP"
	hintOverlap  = "give one of the two gateways another network for its own clients: they have the same, so the outer one cannot be asked"
	hintRoute    = "connect this host to a network, or give it a default route"
	hintExternal = "the gateway seems to be offline, or it hides its address"
	hintFull     = "take mappings away that nobody needs; `fairlead gateway` lists them where the gateway lets it"
	hintLocal    = "let it listen on an address of the network that leads to the gateway"
)

func hintOf(k Kind) string {
	return map[Kind]string{
		KindNoGateway: hintRoute, KindSilent: hintSilent, KindNoExternal: hintExternal, KindFull: hintFull, KindDisabled: hintDisabled,
		KindDenied: hintDenied, KindDoubleNAT: hintDouble, KindCGNAT: hintCGNAT, KindLocal: hintLocal,
	}[k]
}

func noGateway() *Problem {
	return &Problem{Kind: KindNoGateway, Text: "this host has no default route, so there is no gateway to ask", Hint: hintRoute}
}

// asProblem is err of an attempt at a gateway.
func asProblem(g *gateway, err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	return ofRefusals(g.addr, g.only, []error{err})
}

// ofRefusals is the problem that the attempts at one gateway leave. only is the protocols that may be used, none for all.
func ofRefusals(gateway netip.Addr, only []portmap.Protocol, errs []error) *Problem {
	p := &Problem{Kind: KindSilent, Gateway: gateway}
	var said []string
	for _, err := range errs {
		r := asRefusal(err)
		if r.kind == KindSilent {
			continue
		}
		if r.kind > p.Kind {
			p.Kind = r.kind
		}
		said = append(said, r.Error())
	}
	p.Hint = hintOf(p.Kind)
	if p.Kind == KindSilent {
		p.Text = fmt.Sprintf("the gateway %s answers neither PCP nor NAT-PMP nor UPnP", gateway)
		if len(only) > 0 {
			p.Text = fmt.Sprintf("the gateway %s does not answer, and was asked by nothing else than %v", gateway, only)
		}
		return p
	}
	p.Text = fmt.Sprintf("the gateway %s refuses: %s", gateway, strings.Join(said, "; "))
	return p
}

// notPublic is the problem of a mapping that leads to an address that is not public, or nil. beyond says how asking the gateway
// beyond ended.
func notPublic(gateway, external netip.Addr, beyond error) *Problem {
	p := &Problem{Gateway: gateway, Kind: KindDoubleNAT}
	switch ReachOf(external) {
	case Public:
		return nil
	case Shared:
		p.Kind = KindCGNAT
		p.Text = fmt.Sprintf("the gateway %s has the address %s, which its provider shares among customers (CGNAT)", gateway, external)
	case Private:
		p.Text = fmt.Sprintf("the gateway %s has the private address %s, so it is behind another gateway (double NAT)", gateway, external)
	default:
		p.Text = fmt.Sprintf("the gateway %s has the address %s, which cannot be reached from outside", gateway, external)
		p.Kind = KindNoExternal
	}
	p.Hint = hintOf(p.Kind)
	if beyond != nil {
		p.Text += ", and " + beyond.Error()
	}
	return p
}

// behind is what p comes from when the router behind the gateway, hop, is in a network that is not public either.
func behind(p *Problem, gateway, hop netip.Addr) *Problem {
	switch ReachOf(hop) {
	case Private:
		return &Problem{Kind: KindDoubleNAT, Gateway: gateway, Hint: hintDouble,
			Text: fmt.Sprintf("%s; behind it is another gateway, %s (double NAT)", p.Text, hop)}
	case Shared:
		return &Problem{Kind: KindCGNAT, Gateway: gateway, Hint: hintCGNAT,
			Text: fmt.Sprintf("%s; behind it is its provider's translator, %s (CGNAT)", p.Text, hop)}
	}
	return p
}

// worse is the one of two problems that is shown.
func worse(a, b *Problem) *Problem {
	if a == nil || b != nil && b.Kind > a.Kind {
		return b
	}
	return a
}
