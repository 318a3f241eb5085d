package firewall

import (
	"strings"
	"testing"
)

// A sight is a forward and what must be said of it on a ruleset.
type sight struct {
	ruleset, forward string
	owner            Owner  // "": it passes, or it cannot be told
	chain            string // that drops it
	remedy           string // lines, joined by " | "
}

var sights = []sight{
	{"ufw", "web 80 192.168.1.10:80", UFW, "ip filter FORWARD", "ufw route allow proto tcp to 192.168.1.10 port 80"},
	{"ufw", "open 80 192.168.1.10:8080", "", "", ""},
	{"ufw", "open_lan 80 192.168.1.10:8080 interface=lan", "", "", ""},
	{"ufw", "pinhole tcp/[2001:db8:1::10]:80 [2001:db8:1::10]:80", UFW, "ip6 filter FORWARD", "ufw route allow proto tcp to 2001:db8:1::10 port 80"},
	{"ufw", "six [::]:80 [fd00:1::10]:80", UFW, "ip6 filter FORWARD", "ufw route allow proto tcp to fd00:1::10 port 80"},
	{"ufw", "relayed 8080 192.168.1.10:80 relay", UFW, "ip filter INPUT", "ufw allow 8080/tcp"},
	{"ufw", "both tcp+udp/8080 192.168.1.10:80 relay", UFW, "ip filter INPUT", "ufw allow 8080/tcp | ufw allow 8080/udp"},
	{"ufw", "redirect 0.0.0.0:80 :8080", UFW, "ip filter INPUT", "ufw allow 8080/tcp"},
	{"ufw", "range 7000-7010,7100 192.168.1.20:7000-7010 relay", UFW, "ip filter INPUT", "ufw allow 7000:7010,7100/tcp"},
	{"ufw", "from 8080 192.168.1.10:80 relay from=10.1.0.0/16,2001:db8:7::/48", UFW, "ip filter INPUT",
		"ufw allow proto tcp from 10.1.0.0/16 to any port 8080 | ufw allow proto tcp from 2001:db8:7::/48 to any port 8080"},
	{"ufw", "ten 5555 192.168.1.10:80 relay from=10.1.0.0/16", "", "", ""},
	{"ufw", "eleven 5555 192.168.1.10:80 relay from=11.1.0.0/16", UFW, "ip filter INPUT", "ufw allow proto tcp from 11.1.0.0/16 to any port 5555"},
	{"ufw", "on 8080 192.168.1.10:80 relay interface=lan", UFW, "ip filter INPUT", "ufw allow in on lan proto tcp to any port 8080"},
	{"ufw", "denied 4444 192.168.1.10:80 relay", UFW, "ip filter ufw-user-input", "ufw insert 1 allow proto tcp to any port 4444"},
	{"ufw", "limited 0.0.0.0:2222 192.168.1.10:80 relay", "", "", ""},                                  // until somebody comes too often
	{"ufw", "limited6 [::]:2222 192.168.1.10:80 relay", UFW, "ip6 filter INPUT", "ufw allow 2222/tcp"}, // its chain for IPv6 accepts nothing
	{"ufw", "game udp/7005 192.168.1.30:7005 from=203.0.113.0/24", "", "", ""},
	{"ufw", "game2 udp/7005 192.168.1.30:7011 from=203.0.113.0/24", UFW, "ip filter FORWARD",
		"ufw route allow proto udp from 203.0.113.0/24 to 192.168.1.30 port 7011"},
	{"ufw", "all * 192.168.1.50", UFW, "ip filter FORWARD", "ufw route allow proto tcp to 192.168.1.50"},
	{"ufw", "no 80 192.168.1.99:80", UFW, "ip filter ufw-user-forward", "ufw route insert 1 allow proto tcp to 192.168.1.99 port 80"},
	{"ufw", "unix unix:/run/x 192.168.1.99:80 relay", "", "", ""},

	{"firewalld", "web 80 192.168.1.10:80", "", "", ""}, // it accepts whatever was translated
	{"firewalld", "redirect 0.0.0.0:80 :8080", "", "", ""},
	{"firewalld", "relayed 0.0.0.0:8080 192.168.1.10:80 relay", Firewalld, "inet firewalld filter_IN_public",
		"firewall-cmd --zone=public --add-port=8080/tcp | firewall-cmd --permanent --zone=public --add-port=8080/tcp"},
	{"firewalld", "relayed6 [::]:8080 192.168.1.10:80 relay", Firewalld, "inet firewalld filter_IN_public",
		"firewall-cmd --zone=public --add-port=8080/tcp | firewall-cmd --permanent --zone=public --add-port=8080/tcp"},
	{"firewalld", "open 9000 192.168.1.10:80 relay", "", "", ""},
	{"firewalld", "lan 8080 192.168.1.10:80 relay interface=lan", "", "", ""}, // a trusted zone
	{"firewalld", "ten 0.0.0.0:5555 192.168.1.10:80 relay from=10.1.0.0/16", "", "", ""},
	{"firewalld", "eleven 0.0.0.0:5555 192.168.1.10:80 relay from=11.1.0.0/16", Firewalld, "inet firewalld filter_IN_public",
		`firewall-cmd --zone=public --add-rich-rule='rule family="ipv4" source address="11.1.0.0/16" port port="5555" protocol="tcp" accept' | ` +
			`firewall-cmd --permanent --zone=public --add-rich-rule='rule family="ipv4" source address="11.1.0.0/16" port port="5555" protocol="tcp" accept'`},
	{"firewalld", "denied 0.0.0.0:4444 192.168.1.10:80 relay", Firewalld, "inet firewalld filter_IN_public_deny",
		`firewall-cmd --zone=public --add-rich-rule='rule priority="-1" family="ipv4" port port="4444" protocol="tcp" accept' | ` +
			`firewall-cmd --permanent --zone=public --add-rich-rule='rule priority="-1" family="ipv4" port port="4444" protocol="tcp" accept'`},
	{"firewalld", "pinhole tcp/[fd00:1::10]:443 [fd00:1::10]:443", Firewalld, "inet firewalld filter_FWD_public",
		`firewall-cmd --permanent --new-policy=fairlead | firewall-cmd --permanent --policy=fairlead --add-ingress-zone=ANY | ` +
			`firewall-cmd --permanent --policy=fairlead --add-egress-zone=ANY | ` +
			`firewall-cmd --permanent --policy=fairlead --add-rich-rule='rule family="ipv6" destination address="fd00:1::10" port port="443" protocol="tcp" accept' | ` +
			`firewall-cmd --reload`},

	{"docker", "web 80 192.168.1.10:8080", Docker, "ip filter FORWARD",
		"iptables -I DOCKER-USER -p tcp -d 192.168.1.10 --dport 8080 -j ACCEPT | iptables -I DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},
	{"docker", "published 80 172.17.0.2:80", "", "", ""},
	{"docker", "container 80 172.17.0.3:80", Docker, "ip filter DOCKER", "iptables -I DOCKER-USER -p tcp -d 172.17.0.3 --dport 80 -j ACCEPT"},
	{"docker", "relayed 80 172.17.0.3:80 relay", "", "", ""},
	{"docker", "straight tcp/172.17.0.2:80 172.17.0.2:80", Iptables, "ip raw PREROUTING", "iptables -t raw -I PREROUTING -p tcp --dport 80 -j ACCEPT"},
	{"docker", "six [::]:80 [fd00:1::10]:80", "", "", ""},
	{"docker20", "web 80 192.168.1.10:8080", Docker, "ip filter FORWARD",
		"iptables -I DOCKER-USER -p tcp -d 192.168.1.10 --dport 8080 -j ACCEPT | iptables -I DOCKER-USER -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},

	{"libvirt", "web 80 192.168.1.10:8080", "", "", ""},
	{"libvirt", "vm 80 192.168.122.10:80", Libvirt, "ip filter LIBVIRT_FWI", "iptables -I LIBVIRT_FWI -p tcp -d 192.168.122.10 --dport 80 -j ACCEPT"},
	{"libvirt", "isolated 80 192.168.123.10:80", Libvirt, "ip filter LIBVIRT_FWI",
		"iptables -I LIBVIRT_FWI -p tcp -d 192.168.123.10 --dport 80 -j ACCEPT | iptables -I LIBVIRT_FWO -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},
	{"libvirtnft", "vm 80 192.168.122.10:80", Libvirt, "ip libvirt_network guest_input",
		"nft insert rule ip libvirt_network guest_input ip daddr 192.168.122.10 tcp dport 80 accept"},
	{"libvirtnft", "web 80 192.168.1.10:8080", "", "", ""},

	{"fw4", "web 80 192.168.1.10:8080", OpenWrt, "inet fw4 handle_reject",
		"uci add firewall rule | uci set firewall.@rule[-1].name='Fairlead-web' | uci set firewall.@rule[-1].src='wan' | " +
			"uci set firewall.@rule[-1].proto='tcp' | uci set firewall.@rule[-1].family='ipv4' | uci set firewall.@rule[-1].dest='*' | " +
			"uci set firewall.@rule[-1].dest_ip='192.168.1.10' | uci set firewall.@rule[-1].dest_port='8080' | " +
			"uci set firewall.@rule[-1].target='ACCEPT' | uci commit firewall | service firewall reload"},
	{"fw4", "relayed 0.0.0.0:8080 192.168.1.10:8080 relay", OpenWrt, "inet fw4 handle_reject",
		"uci add firewall rule | uci set firewall.@rule[-1].name='Fairlead-relayed' | uci set firewall.@rule[-1].src='wan' | " +
			"uci set firewall.@rule[-1].proto='tcp' | uci set firewall.@rule[-1].family='ipv4' | " +
			"uci set firewall.@rule[-1].dest_port='8080' | uci set firewall.@rule[-1].target='ACCEPT' | uci commit firewall | service firewall reload"},
	{"fw4", "lan 8080 192.168.1.10:8080 relay interface=lan", "", "", ""},
	{"fw4", "udp udp/500 192.168.1.10:500", "", "", ""},

	{"plain", "ssh 22 192.168.1.10:22 relay", "", "", ""},
	{"plain", "x 0.0.0.0:6005 192.168.1.10:22 relay", "", "", ""},
	{"plain", "x 0.0.0.0:6011 192.168.1.10:22 relay", Nftables, "inet filter input", "nft insert rule inet filter input tcp dport 6011 accept"},
	{"plain", "mail 0.0.0.0:25 192.168.1.10:22 relay", Nftables, "inet filter input", "nft insert rule inet filter input tcp dport 25 accept"},
	{"plain", "web 0.0.0.0:443 192.168.1.10:22 relay", "", "", ""},
	{"plain", "web6 [::]:443 192.168.1.10:22 relay", Nftables, "inet filter input", "nft insert rule inet filter input tcp dport 443 accept"},
	{"plain", "blocked 0.0.0.0:22 192.168.1.10:22 relay from=192.0.2.7/32", Nftables, "inet filter input",
		"nft insert rule inet filter input ip saddr 192.0.2.7/32 tcp dport 22 accept"},
	{"plain", "blocked2 0.0.0.0:22 192.168.1.10:22 relay from=198.51.100.205/32", Nftables, "inet filter input",
		"nft insert rule inet filter input ip saddr 198.51.100.205/32 tcp dport 22 accept"},
	{"plain", "counted 0.0.0.0:7777 192.168.1.10:22 relay", "", "", ""},
	{"plain", "unclear 0.0.0.0:8888 192.168.1.10:22 relay", "", "", ""}, // the rule asks for what is not known
	{"plain", "fwd 0.0.0.0:80 192.168.1.10:443", "", "", ""},
	{"plain", "fwd2 0.0.0.0:80 192.168.1.10:9005", "", "", ""},
	{"plain", "fwd3 0.0.0.0:80 192.168.1.10:9011", Nftables, "inet filter forward", "nft insert rule inet filter forward ip daddr 192.168.1.10 tcp dport 9011 accept"},
	{"plain", "front 0.0.0.0:8050 192.168.1.77:1", "", "", ""},
	{"plain", "echo 0.0.0.0:7 192.168.1.77:7", Nftables, "inet filter forward", "nft insert rule inet filter forward ip daddr 192.168.1.77 tcp dport 7 accept"},
}

func TestLook(t *testing.T) {
	for _, s := range sights {
		t.Run(s.ruleset+"/"+strings.Fields(s.forward)[0], func(t *testing.T) {
			s.check(t, recorded(t, s.ruleset))
		})
	}
}

// TestLookAtSaved has the rulesets of iptables read from their text, as on a host with its older kernel interface.
func TestLookAtSaved(t *testing.T) {
	looked := 0
	for _, s := range sights {
		rs := saved(t, s.ruleset)
		if rs == nil {
			continue
		}
		looked++
		s.remedy = strings.NewReplacer("ip6tables ", "ip6tables-legacy ", "iptables ", "iptables-legacy ").Replace(s.remedy)
		if s.chain != "" {
			words := strings.Fields(s.chain)
			s.chain = words[0] + " " + words[1] + " (legacy) " + words[2]
		}
		t.Run(s.ruleset+"/"+strings.Fields(s.forward)[0], func(t *testing.T) { s.check(t, rs) })
	}
	if looked == 0 {
		t.Error("no ruleset was found")
	}
}

func (s sight) check(t *testing.T, rs *Ruleset) {
	t.Helper()
	o := rs.Look(fwd(t, s.forward), testHost)
	switch {
	case o == nil && s.owner == "":
	case o == nil:
		t.Errorf("%s: nothing was found, expected %s", s.forward, s.owner)
	case s.owner == "":
		t.Errorf("%s: found %s %s (%s), expected nothing", s.forward, o.Owner, o.Chain, o.Why)
	default:
		if o.Owner != s.owner || o.Chain != s.chain {
			t.Errorf("%s: found %s in %s, expected %s in %s", s.forward, o.Owner, o.Chain, s.owner, s.chain)
		}
		if got := strings.Join(o.Remedy, " | "); got != s.remedy {
			t.Errorf("%s: the remedy is\n%s\nexpected\n%s", s.forward, got, s.remedy)
		}
	}
}

// TestOwned has a table that one process keeps for itself: there is no place for a rule of Fairlead's, and it is said why.
func TestOwned(t *testing.T) {
	rs := recorded(t, "firewalld")
	f := fwd(t, "relayed 0.0.0.0:8080 192.168.1.10:80 relay")
	if spots := rs.spots(rs.drops(f, testHost, 0)[0]); len(spots) != 1 {
		t.Errorf("the places are %v", spots)
	}
	rs.table(tableID{family: familyInet, name: "firewalld"}).owned = true
	if spots := rs.spots(rs.drops(f, testHost, 0)[0]); len(spots) != 0 {
		t.Errorf("the places are %v, in a table that is owned", spots)
	}
	if o := rs.Look(f, testHost); !strings.Contains(o.Hint, "NftablesTableOwner") || len(o.Remedy) != 2 {
		t.Errorf("found %+v", o)
	}
}

// TestWords wants an obstacle in one line, as the status shows it.
func TestWords(t *testing.T) {
	o := recorded(t, "ufw").Look(fwd(t, "web 80 192.168.1.10:80"), testHost)
	const want = "ufw drops what is routed to tcp/192.168.1.10:80 from elsewhere by wan (policy of chain FORWARD, table ip filter); " +
		"to let it through: ufw route allow proto tcp to 192.168.1.10 port 80"
	if o.String() != want {
		t.Errorf("it says\n%s\nexpected\n%s", o, want)
	}
}
