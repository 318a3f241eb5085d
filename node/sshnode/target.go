package sshnode

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// A Query is what is asked of ssh_config: a host as somebody wrote it.
type Query struct {
	Host    string   // a name, an address or an alias
	User    string   // "" is not said
	Port    uint16   // 0 is not said
	Config  string   // as node.SSH has it
	Options []string // as node.SSH has it
	Jump    bool     // the host is a hop on the way to another
}

// ParseTarget takes [user@]host[:port] apart, ssh://[user@]host[:port] too. An IPv6 address with a port stands in brackets.
func ParseTarget(s string) (Query, error) {
	bad := func(why string) (Query, error) { return Query{}, fmt.Errorf("SSH target %q: %s", s, why) }
	rest, _ := strings.CutPrefix(s, "ssh://")
	var q Query
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		q.User, rest = rest[:at], rest[at+1:]
		if q.User == "" {
			return bad("the user before @ is missing")
		}
	}
	switch ip, err := netip.ParseAddr(rest); {
	case err == nil:
		q.Host = ip.String()
	case strings.HasPrefix(rest, "[") && strings.HasSuffix(rest, "]"):
		q.Host = rest[1 : len(rest)-1]
	case strings.Contains(rest, ":"):
		host, port, err := net.SplitHostPort(rest)
		if err != nil {
			return bad("an IPv6 address with a port is written [address]:port")
		}
		number, err := strconv.ParseUint(port, 10, 16)
		if err != nil || number == 0 {
			return bad("the port is a number from 1 to 65535")
		}
		q.Host, q.Port = host, uint16(number)
	default:
		q.Host = rest
	}
	switch {
	case q.Host == "":
		return bad("the host is missing")
	case strings.HasPrefix(q.Host, "-") || strings.HasPrefix(q.User, "-"):
		// They may end in the command line of a proxy command.
		return bad("neither a host nor a user begins with -")
	case strings.ContainsAny(q.Host, " \t\r\n\x00/'\"`$\\;&|<>(){}") || strings.ContainsAny(q.User, "\r\n\x00'\"`$\\;&|<>(){}"):
		return bad("it has a character that no host and no user has")
	}
	return q, nil
}
