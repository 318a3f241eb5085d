package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// keys are the keys of a forward in the order of reference.toml.
func keys() []string {
	return []string{
		"listen", "to", "from", "except", "interface", "enabled", "expires", "when", "max_connections", "max_per_source",
		"bandwidth", "bandwidth_per_source", "connect_timeout", "idle_timeout", "udp_idle", "carry", "source", "fast_open",
		"balance", "check", "check_interval", "slow_start", "drain", "send_proxy", "accept_proxy",
		"wake", "wake_timeout", "wake_password", "host", "tls", "cert", "key", "auth", "allow", "away_page", "redirect_https", "users", "permit", "deny", "pac", "direct", "through", "at", "via", "helper", "passive_ports", "publish",
	}
}

// Help says in one line how the value of a key is written, or "" for a key that is not known. The key "" is the name.
func Help(key string) string {
	switch key {
	case "":
		return "a name has 1 to 64 letters, digits, '.', '_' and '-', a letter or digit first"
	case "listen":
		return `listen is [tcp/|udp/|tcp+udp/][address:]ports or unix:/path, such as "80", "udp/192.0.2.1:53" or "tcp+udp/8000-8010"`
	case "to":
		return `to is host[:ports], :port for this host or unix:/path, such as "192.168.1.10:8080" or ":8443", or a list of them; or a proxy: "socks", "http" or "proxy"`
	case "at", "via":
		return key + ` is the name of a node that [node.NAME] declares, such as "bastion", or "host" (the default), this machine`
	case "balance":
		return `balance is "failover" (the default), "round-robin", "least" or "source"`
	case "from", "except", "accept_proxy":
		return key + ` is an address, a network or a list of them, such as "198.51.100.7" or ["198.51.100.0/24", "2001:db8::/32"]`
	case "interface":
		return `interface is the name of one, such as "eth0"`
	case "carry":
		return `carry is "auto" (the default), "kernel" or "relay"`
	case "enabled":
		return `enabled is true (the default) or false`
	case "expires":
		return `expires is a date and time with a time zone, such as "2027-01-31T18:00:00+01:00" or "2027-01-31T17:00:00Z"`
	case "when":
		return `when is days and hours, such as "mon-fri 08:00-18:00", or a list of them`
	case "max_connections", "max_per_source":
		return key + ` is a whole number from 1; leave it out for no limit`
	case "bandwidth", "bandwidth_per_source":
		return key + ` is bits or bytes a second, such as "10Mbit", "1.5MB" or "512kB/s"`
	case "source":
		return `source is "auto" (the default), "keep" or "rewrite"`
	case "send_proxy":
		return `send_proxy is "v1" for tcp, or "v2" for tcp and udp`
	case "connect_timeout":
		return `connect_timeout is how long a target may take to answer, such as "10s"; leave it out for the default`
	case "idle_timeout":
		return `idle_timeout is a time such as "10m" or "1h30m", for tcp; leave it out for never`
	case "udp_idle":
		return `udp_idle is a time such as "60s", for udp; leave it out for 30s until the target answers and 180s after that`
	case "check":
		return `check is "connect" or a URL such as "http://app.example/health"; leave it out for no check`
	case "check_interval":
		return `check_interval is a time such as "2s", beside check; leave it out for 5s`
	case "slow_start":
		return `slow_start is a time such as "30s", for several targets; leave it out for none`
	case "drain":
		return `drain is one of the targets as it stands in to, such as "192.168.1.11:80", or a list of them`
	case "wake":
		return `wake is the hardware address of the target, such as "aa:bb:cc:dd:ee:ff", or a list, one for each target`
	case "wake_timeout":
		return `wake_timeout is a time such as "90s", beside wake; leave it out for 60s`
	case "wake_password":
		return `wake_password is six bytes such as "aa:bb:cc:dd:ee:ff" or four such as "192.0.2.1", beside wake`
	case "fast_open":
		return `fast_open is true or false (the default), for tcp`
	}
	if help := gatewayKeyHelp(key); help != "" {
		return help
	}
	if help := namesHelp(key); help != "" {
		return help
	}
	return proxyHelp(key)
}

// proxyHelp is Help for the keys of a dynamic forward.
func proxyHelp(key string) string {
	switch key {
	case "users":
		return `users is one or several names that [users.NAME] declares, such as ["anna", "ben"], for a proxy or auth = "basic"; leave it out for all of them`
	case "permit", "direct", "through":
		return key + ` is one or several destinations, such as "*.example.com", "10.0.0.0/8" or "192.0.2.7:443", for a proxy`
	case "deny":
		return `deny is one or several destinations, such as "*.example.com" or "10.0.0.0/8", for a proxy; clients are kept out by except`
	case "pac":
		return `pac is true or false (the default), for a proxy: whether browsers get a PAC file, at /proxy.pac of its port`
	}
	return ""
}

// Hint says what would have been right where Spec.Forward, or a *forward.FieldError on its own, says what is wrong; of
// several errors the first counts. It is "" for any other error.
func Hint(err error) string { return hintOf(err, Help) }

// hintOf is Hint for a table whose keys help explains.
func hintOf(err error, help func(key string) string) string {
	var hint withHint
	var late lateHint
	var field *forward.FieldError
	switch {
	case errors.As(err, &field) && errors.As(field.Err, &hint):
		return hint.hint
	case field != nil && errors.As(field.Err, &late):
		return late.hint()
	case field != nil:
		return help(field.Field)
	}
	return ""
}

// suggest is the known word that was probably meant, or "".
func suggest(word string, known []string) string {
	word = strings.ReplaceAll(strings.ToLower(word), "-", "_")
	if len(word) > 40 {
		return ""
	}
	for _, other := range otherWords(word) {
		if slices.Contains(known, other) {
			return other
		}
	}
	return nearest(word, known)
}

// nearest is the known word that is written most like word, or "" when none is much like it.
func nearest(word string, known []string) string {
	best, bestAt := "", max(1, len(word)/3)+1
	for _, k := range known {
		if d := distance(word, k); d < bestAt {
			best, bestAt = k, d
		}
	}
	return best
}

// distance is how many letters must be added, dropped, changed or swapped with their neighbour to turn a into b.
func distance(a, b string) int {
	previous, current, next := []int(nil), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range current {
		current[j] = j
	}
	for i := range len(a) {
		next[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			next[j+1] = min(current[j]+cost, current[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				next[j+1] = min(next[j+1], previous[j-1]+1)
			}
		}
		if previous == nil {
			previous = make([]int, len(b)+1)
		}
		previous, current, next = current, next, previous
	}
	return current[len(b)]
}

// quoteKey is a key the way it is written in TOML.
func quoteKey(key string) string {
	bare := strings.Trim(key, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-") == ""
	if bare && key != "" {
		return key
	}
	return fmt.Sprintf("%q", key)
}
