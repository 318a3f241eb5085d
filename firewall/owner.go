package firewall

import "strings"

// An Owner is the program whose rules they are.
type Owner string

// The programs that are known by what they write.
const (
	UFW        Owner = "ufw"
	Firewalld  Owner = "firewalld"
	Docker     Owner = "Docker"
	Libvirt    Owner = "libvirt"
	OpenWrt    Owner = "OpenWrt's fw4"
	Kubernetes Owner = "Kubernetes"
	Podman     Owner = "Podman"
	Fail2ban   Owner = "fail2ban"
	Tailscale  Owner = "Tailscale"
	Iptables   Owner = "iptables"
	Nftables   Owner = "nftables"
)

// ownTables are tables of nftables that one program has to itself.
var ownTables = map[string]Owner{
	"firewalld": Firewalld, "fw4": OpenWrt, "libvirt_network": Libvirt, "docker-bridges": Docker, "netavark": Podman, "f2b-table": Fail2ban,
}

// ownChains begin the names of chains in the tables that all users of iptables share.
var ownChains = []struct {
	prefix string
	owner  Owner
}{
	{"ufw-", UFW}, {"ufw6-", UFW}, {"LIBVIRT_", Libvirt}, {"DOCKER", Docker}, {"KUBE-", Kubernetes}, {"NETAVARK", Podman}, {"CNI-", Podman},
	{"f2b-", Fail2ban}, {"ts-", Tailscale},
}

// owner is whose the place is.
func (rs *Ruleset) owner(p place) Owner {
	id := p.chain.id
	if o, ok := ownTables[id.name]; ok {
		return o
	}
	if !isIptables(rs, id.tableID) {
		return Nftables
	}
	for i := len(p.stack) - 1; i >= 0; i-- { // the innermost chain that says whose it is
		if o := chainOwner(p.stack[i].chain.id.chain); o != "" {
			return o
		}
	}
	names := rs.tables[id.tableID].names
	if names["INPUT_ZONES"] && names["FORWARD_direct"] { // firewalld with FirewallBackend=iptables
		return Firewalld
	}
	if p.rule != nil { // a rule in a built-in chain
		return Iptables
	}
	for _, c := range p.visited { // the policy: of whom the chain asked before
		if chainOwner(c.id.chain) == UFW {
			return UFW
		}
	}
	if p.chain.hook == Forward && (names["DOCKER-USER"] || names["DOCKER-FORWARD"]) {
		return Docker
	}
	return Iptables
}

func chainOwner(name string) Owner {
	for _, c := range ownChains {
		if strings.HasPrefix(name, c.prefix) {
			return c.owner
		}
	}
	return ""
}

// isIptables reports whether a table is one of iptables: it has their names, and a built-in chain with theirs.
func isIptables(rs *Ruleset, id tableID) bool {
	if id.legacy {
		return true
	}
	if _, ok := savePriority[id.name]; !ok || id.family == familyInet {
		return false
	}
	for name := range rs.tables[id].names {
		if _, ok := builtin[name]; ok {
			return true
		}
	}
	return false
}

// zoneOf is the zone of firewalld or fw4 in which a packet was when it came to p, or "".
func zoneOf(p place) string {
	prefixes := []string{"filter_IN_", "filter_FWD_", "IN_", "FWD_", "FWDI_", "input_", "forward_"}
	for _, c := range p.visited {
		for _, prefix := range prefixes {
			zone, ok := strings.CutPrefix(c.id.chain, prefix)
			if ok && !strings.HasPrefix(zone, "policy_") {
				return zone
			}
		}
	}
	return ""
}
