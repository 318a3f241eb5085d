package firewall

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A want is what a remedy has to let through, for one protocol and family.
type want struct {
	proto string
	v6    bool
	to    netip.Addr      // of a packet that is routed on; invalid: this host
	ports []forward.Range // none: all
	from  []netip.Prefix  // none: everybody
	in    string          // only by this interface, or ""
}

// maxSources is how many client prefixes a remedy spells out.
const maxSources = 8

func wanted(f *forward.Forward, d drop) want {
	w := want{proto: d.journey.network.String(), v6: d.journey.v6, in: f.Interface}
	for _, p := range f.From {
		if p.Addr().Is6() == w.v6 && p.Bits() > 0 && len(w.from) < maxSources {
			w.from = append(w.from, p)
		}
	}
	if d.packet.hook == Forward || d.packet.hook == Postrouting {
		w.to = d.journey.dst.Addr()
	}
	var target forward.Target
	for _, t := range f.To {
		if !w.to.IsValid() || t.Addr == w.to {
			target = t
			break
		}
	}
	translated := f.Carry == forward.CarryKernel && !f.IsPinhole() && d.packet.hook != Prerouting
	switch {
	case translated && !target.Ports.IsZero():
		w.ports = []forward.Range{target.Ports}
	case !f.Listen.Ports.All:
		w.ports = f.Listen.Ports.Ranges
	}
	return w
}

// remedy is the command lines after which packets like d's pass, and what else is to be known.
func (rs *Ruleset) remedy(f *forward.Forward, d drop) (lines []string, hint string) {
	lines, hint = rs.remedyOf(f, d)
	if rs.table(d.at.chain.id.tableID).owned {
		hint = join(hint, string(d.owner)+` lets nobody else change its table (NftablesTableOwner=yes), so coexist = "auto" has no place there`)
	}
	return lines, hint
}

func join(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func (rs *Ruleset) remedyOf(f *forward.Forward, d drop) (lines []string, hint string) {
	w := wanted(f, d)
	switch d.owner {
	case UFW:
		return ufwRemedy(w, d)
	case Firewalld:
		return firewalldRemedy(w, d)
	case Docker:
		if d.at.chain.id.name == "docker-bridges" {
			return nftRemedy(w, d, d.at.chain), "Docker writes its table anew when it starts; what another table has marked, its option --bridge-accept-fwmark accepts"
		}
		return w.iptables("DOCKER-USER", d), "rules in DOCKER-USER last until the next boot; a unit ordered after docker.service keeps them"
	case Libvirt:
		const hint = "libvirt writes its rules anew when a network starts; /etc/libvirt/hooks/network is run then"
		if d.at.chain.id.name == "libvirt_network" {
			return nftRemedy(w, d, d.at.chain), hint
		}
		return w.iptables(d.at.chain.id.chain, d), hint
	case OpenWrt:
		return fw4Remedy(f, w, d), ""
	case Nftables, Podman, Tailscale, Fail2ban, Kubernetes, Iptables:
		if isIptables(rs, d.at.chain.id.tableID) {
			return w.iptables(baseName(d), d), "rules of iptables last until the next boot unless something saves them, such as netfilter-persistent"
		}
		return nftRemedy(w, d, d.at.base()), "and put the rule into the file that makes this table, such as /etc/nftables.conf"
	}
	return nil, ""
}

func baseName(d drop) string { return d.at.base().id.chain }

// portList writes ports with sep in ranges, joined by commas.
func (w want) portList(sep string) string {
	var out []string
	for _, r := range w.ports {
		s := strconv.Itoa(int(r.First))
		if r.Last != r.First {
			s += sep + strconv.Itoa(int(r.Last))
		}
		out = append(out, s)
	}
	return strings.Join(out, ",")
}

// sources is the prefixes of clients as text, "" for everybody.
func (w want) sources() []string {
	if len(w.from) == 0 {
		return []string{""}
	}
	var out []string
	for _, p := range w.from {
		out = append(out, p.String())
	}
	return out
}

// ufwRemedy is ufw(8): a rule of its own, or for what is routed a rule with "route". ufw has rules for both families where no
// address is named.
func ufwRemedy(w want, d drop) (lines []string, hint string) {
	for _, from := range w.sources() {
		words := []string{"ufw"}
		if w.to.IsValid() {
			words = append(words, "route")
		}
		if d.asked() {
			words = append(words, "insert 1")
		}
		words = append(words, "allow")
		simple := !w.to.IsValid() && w.in == "" && from == "" && len(w.ports) > 0 && !d.asked()
		if simple {
			lines = append(lines, fmt.Sprintf("ufw allow %s/%s", w.portList(":"), w.proto))
			continue
		}
		if w.in != "" {
			words = append(words, "in on "+w.in)
		}
		words = append(words, "proto "+w.proto)
		if from != "" {
			words = append(words, "from "+from)
		}
		to := "any"
		if w.to.IsValid() {
			to = w.to.String()
		}
		words = append(words, "to "+to)
		if len(w.ports) > 0 {
			words = append(words, "port "+w.portList(":"))
		}
		lines = append(lines, strings.Join(words, " "))
	}
	if d.asked() {
		hint = "a rule that was added to ufw denies it; `ufw status numbered` shows it"
	}
	return lines, hint
}

// iptables puts a rule at the beginning of a chain.
func (w want) iptables(chain string, d drop) (lines []string) {
	program := "iptables"
	if w.v6 {
		program = "ip6tables"
	}
	if d.at.chain.id.legacy {
		program += "-legacy"
	}
	if d.packet.reply {
		return []string{fmt.Sprintf("%s -I %s -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT", program, chain)}
	}
	for _, from := range w.sources() {
		words := []string{program}
		if d.at.chain.id.name != "filter" {
			words = append(words, "-t "+d.at.chain.id.name)
		}
		words = append(words, "-I "+chain, "-p "+w.proto)
		if w.in != "" {
			words = append(words, "-i "+w.in)
		}
		if from != "" {
			words = append(words, "-s "+from)
		}
		if w.to.IsValid() {
			words = append(words, "-d "+w.to.String())
		}
		switch {
		case len(w.ports) > 1:
			words = append(words, "-m multiport --dports "+w.portList(":"))
		case len(w.ports) == 1:
			words = append(words, "--dport "+w.portList(":"))
		}
		lines = append(lines, strings.Join(append(words, "-j ACCEPT"), " "))
	}
	return lines
}

// nftRemedy puts a rule at the beginning of chain c.
func nftRemedy(w want, d drop, c *chain) (lines []string) {
	insert := "nft insert rule " + c.id.String()
	if d.packet.reply {
		return []string{insert + " ct state established,related accept"}
	}
	family := "ip"
	if w.v6 {
		family = "ip6"
	}
	for _, from := range w.sources() {
		words := []string{insert}
		if w.in != "" {
			words = append(words, "iifname "+w.in)
		}
		if from != "" {
			words = append(words, family+" saddr "+from)
		}
		if w.to.IsValid() {
			words = append(words, family+" daddr "+w.to.String())
		}
		switch {
		case len(w.ports) > 1:
			words = append(words, w.proto+" dport '{ "+strings.ReplaceAll(w.portList("-"), ",", ", ")+" }'")
		case len(w.ports) == 1:
			words = append(words, w.proto+" dport "+w.portList("-"))
		default:
			words = append(words, "meta l4proto "+w.proto)
		}
		lines = append(lines, strings.Join(append(words, "accept"), " "))
	}
	return lines
}
