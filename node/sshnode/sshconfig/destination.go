package sshconfig

import (
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
)

// A Destination is [user@]host[:port] or ssh://[user@]host[:port], as -J and ProxyJump take it.
type Destination struct {
	User string // "" is none said
	Host string
	Port uint16 // 0 is none said
}

// ParseDestination reads a destination in which a port may follow the host. An IPv6 address before a port stands in brackets.
func ParseDestination(s string) (Destination, error) {
	d, err := parseDestination(s)
	if err == nil {
		err = checkHost(d.Host)
	}
	if err == nil && d.User != "" {
		err = checkUser(d.User)
	}
	if err != nil {
		return Destination{}, fmt.Errorf("%.100q is no destination: %w", s, err)
	}
	return d, nil
}

// ParseTarget reads the destination of a command line: [user@]host, in which a colon belongs to the host, or the URI.
func ParseTarget(s string) (Destination, error) {
	if isURI(s) {
		return ParseDestination(s)
	}
	var d Destination
	d.Host = s
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		if d.User, d.Host = s[:at], s[at+1:]; d.User == "" {
			return d, fmt.Errorf("%.100q has no user before its @", s)
		}
		if err := checkUser(d.User); err != nil {
			return d, err
		}
	}
	if len(d.Host) > 1 && d.Host[0] == '[' && d.Host[len(d.Host)-1] == ']' {
		d.Host = d.Host[1 : len(d.Host)-1]
	}
	return d, checkHost(d.Host)
}

func isURI(s string) bool { return len(s) > 6 && strings.EqualFold(s[:6], "ssh://") }

func parseDestination(s string) (d Destination, err error) {
	uri := isURI(s)
	if uri {
		s = strings.TrimSuffix(s[6:], "/")
	}
	if at := strings.LastIndexByte(s, '@'); at >= 0 {
		if d.User, s = s[:at], s[at+1:]; d.User == "" {
			return d, errors.New("there is no user before the @")
		}
		if uri {
			d.User, _, _ = strings.Cut(d.User, ";") // connection parameters of the draft, which nobody has
			if d.User, err = url.PathUnescape(d.User); err != nil {
				return d, err
			}
		}
	}
	port, found := "", false
	if strings.HasPrefix(s, "[") {
		var after string
		var ok bool
		if d.Host, after, ok = strings.Cut(s[1:], "]"); !ok {
			return d, errors.New("a bracket is opened and not closed")
		}
		if port, found = strings.CutPrefix(after, ":"); !found && after != "" {
			return d, errors.New("after the bracket comes a colon and the port")
		}
	} else if strings.Count(s, ":") > 1 {
		return d, errors.New("an IPv6 address stands in brackets")
	} else {
		d.Host, port, found = strings.Cut(s, ":")
	}
	if found {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return d, fmt.Errorf("%.20q is no port", port)
		}
		d.Port = uint16(n)
	}
	return d, nil
}
