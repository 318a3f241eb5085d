// Package pac writes the proxy auto-config file that tells browsers what goes through a dynamic forward and what does not.
// It only writes text; a head serves it.
package pac

import (
	_ "embed" // the part that is the same in every file
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// common finds out whether one of a list of rules matches; it is JavaScript as the oldest engines for such files take it.
//
//go:embed common.js
var common string

// File is the file for a proxy that browsers call at an address, "host:port", as they wrote it. What a rule of Direct matches
// goes without the proxy; the rest goes through it, or, where there are rules in Through, what they match. When the proxy
// does not answer, nothing goes another way.
func File(p forward.PAC, proxyAddr string, kind forward.Head) ([]byte, error) {
	proxy, err := result(proxyAddr, kind)
	if err != nil {
		return nil, err
	}
	through := p.Through
	if len(through) == 0 {
		through = []forward.Rule{{Host: "*"}}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "var proxy = %s;\n", quote(proxy))
	fmt.Fprintf(&b, "var direct = %s;\n", list(p.Direct))
	fmt.Fprintf(&b, "var through = %s;\n\n", list(through))
	b.WriteString(common)
	return []byte(b.String()), nil
}

// result is what the file says of a proxy. Browsers log in to HTTP proxies and not to SOCKS ones, so that where there are
// both it is the former. "SOCKS" is for those that do not know "SOCKS5".
func result(addr string, kind forward.Head) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", fmt.Errorf("%q is no host:port that a browser can call", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q is no port that a browser can call", port)
	}
	// The name comes from the browser, and goes into a text of which ';' and spaces are the grammar.
	if _, err := netip.ParseAddr(host); err != nil && (host == "" || strings.Trim(host, nameBytes) != "") {
		return "", fmt.Errorf("%q is no host that a browser can call", host)
	}
	if strings.Contains(host, "%") {
		return "", fmt.Errorf("%q has a zone, which a proxy auto-config file cannot have", host)
	}
	addr = net.JoinHostPort(host, port)
	switch kind {
	case forward.HeadSocks:
		return "SOCKS5 " + addr + "; SOCKS " + addr, nil
	case forward.HeadHTTP, forward.HeadProxy:
		return "PROXY " + addr, nil
	}
	return "", fmt.Errorf("a forward to %q is no proxy", kind)
}

const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._"

// list is some rules as JavaScript: [kind, what, first port, last port], see common.js.
func list(rules []forward.Rule) string {
	var b strings.Builder
	b.WriteString("[")
	for i, r := range rules {
		if i > 0 {
			b.WriteString(",")
		}
		first, last := r.Ports.First, r.Ports.Last
		if r.Ports.IsZero() {
			first, last = 0, 65535
		}
		fmt.Fprintf(&b, "\n  [%s, %d, %d]", match(r), first, last)
	}
	if len(rules) > 0 {
		b.WriteString("\n")
	}
	b.WriteString("]")
	return b.String()
}

// match is the kind of a rule and what it matches: a name, the end of a name, or an address in words of 16 bits and the
// length of its prefix.
func match(r forward.Rule) string {
	switch below, isBelow := strings.CutPrefix(r.Host, "*."); {
	case r.Prefix.IsValid():
		raw, words := r.Prefix.Masked().Addr().AsSlice(), []uint16{}
		for ; len(raw) > 0; raw = raw[2:] {
			words = append(words, binary.BigEndian.Uint16(raw))
		}
		return fmt.Sprintf(`"net", [%s, %d]`, strings.Trim(strings.ReplaceAll(fmt.Sprint(words), " ", ", "), "[]"), r.Prefix.Bits())
	case r.Host == "*":
		return `"any", ""`
	case isBelow:
		return `"below", ` + quote("."+below)
	}
	return `"name", ` + quote(r.Host)
}

// quote writes a string that is one in JavaScript as well; JSON of Go escapes what is not.
func quote(s string) string {
	b, _ := json.Marshal(s) // strings do not fail
	return string(b)
}
