package firewall

import (
	"fmt"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// firewalldRemedy is firewall-cmd(1): ports of a zone for what is for this host, now and after the next start; a policy for
// what is routed on, of which there is only the permanent form.
func firewalldRemedy(w want, d drop) (lines []string, hint string) {
	if w.to.IsValid() || d.packet.hook == Forward {
		return firewalldPolicy(w), "where the policy is there already, it takes the rule and the reload alone"
	}
	zone := ""
	if z := zoneOf(d.at); z != "" {
		zone = "--zone=" + z + " "
	}
	for _, permanent := range []string{"", "--permanent "} {
		before := "firewall-cmd " + permanent + zone
		if len(w.from) == 0 && !d.asked() {
			for _, r := range w.ports {
				one := w
				one.ports = []forward.Range{r}
				lines = append(lines, fmt.Sprintf("%s--add-port=%s/%s", before, one.portList("-"), w.proto))
			}
			continue
		}
		for _, rich := range w.rich(d) {
			lines = append(lines, before+"--add-rich-rule='"+rich+"'")
		}
	}
	if d.asked() {
		hint = "a rich rule of this zone denies it; `firewall-cmd --zone=" + zoneOf(d.at) + " --list-rich-rules` shows it"
	}
	return lines, hint
}

// rich is rules in the language of firewalld.richlanguage(5).
func (w want) rich(d drop) (out []string) {
	family := "ipv4"
	if w.v6 {
		family = "ipv6"
	}
	for _, from := range w.sources() {
		ranges := w.ports
		if len(ranges) == 0 {
			ranges = []forward.Range{{First: 1, Last: 65535}}
		}
		for _, r := range ranges {
			words := []string{"rule"}
			if d.asked() {
				words = append(words, `priority="-1"`)
			}
			words = append(words, fmt.Sprintf("family=%q", family))
			if from != "" {
				words = append(words, fmt.Sprintf("source address=%q", from))
			}
			if w.to.IsValid() {
				words = append(words, fmt.Sprintf("destination address=%q", w.to))
			}
			one := want{ports: []forward.Range{r}}
			words = append(words, fmt.Sprintf("port port=%q protocol=%q accept", one.portList("-"), w.proto))
			out = append(out, strings.Join(words, " "))
		}
	}
	return out
}

const firewalldReload = "firewall-cmd --reload"

// policyName is short enough for firewalld (17 characters) and tells forwards apart.
const policyName = "fairlead"

func firewalldPolicy(w want) []string {
	lines := []string{
		"firewall-cmd --permanent --new-policy=" + policyName,
		"firewall-cmd --permanent --policy=" + policyName + " --add-ingress-zone=ANY",
		"firewall-cmd --permanent --policy=" + policyName + " --add-egress-zone=ANY",
	}
	for _, rich := range w.rich(drop{}) {
		lines = append(lines, "firewall-cmd --permanent --policy="+policyName+" --add-rich-rule='"+rich+"'")
	}
	return append(lines, firewalldReload)
}

// fw4Remedy is a rule of OpenWrt's firewall configuration.
func fw4Remedy(f *forward.Forward, w want, d drop) []string {
	zone := zoneOf(d.at)
	if zone == "" {
		zone = "*"
	}
	set := func(key, value string) string { return fmt.Sprintf("uci set firewall.@rule[-1].%s='%s'", key, value) }
	lines := []string{"uci add firewall rule", set("name", "Fairlead-"+f.Name), set("src", zone), set("proto", w.proto)}
	if w.v6 {
		lines = append(lines, set("family", "ipv6"))
	} else {
		lines = append(lines, set("family", "ipv4"))
	}
	if w.to.IsValid() {
		lines = append(lines, set("dest", "*"), set("dest_ip", w.to.String()))
	}
	if len(w.from) > 0 {
		lines = append(lines, set("src_ip", strings.Join(w.sources(), " ")))
	}
	if len(w.ports) > 0 {
		lines = append(lines, set("dest_port", strings.ReplaceAll(w.portList("-"), ",", " ")))
	}
	return append(lines, set("target", "ACCEPT"), "uci commit firewall", "service firewall reload")
}
