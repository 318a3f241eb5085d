package sshd

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

var (
	errEmptyPattern = errors.New("a pattern is empty")
	errHostBits     = errors.New("the network has bits set behind its length")
)

// keyOptions is what stands before a key in authorized_keys (sshd(8), AUTHORIZED_KEYS FILE FORMAT).
type keyOptions struct {
	authority  bool // cert-authority
	principals []string
	sources    []sourcePattern // from=; nil: anywhere
	expires    time.Time       // zero: never
	open       []place         // permitopen=; nil: anywhere
	listen     []place         // permitlisten=; nil: anywhere
	forwarding bool
	noTouch    bool
	verify     bool
}

// A place is a host, which may be "*", and a port, of which 0 is any.
type place struct {
	host string
	port uint16
}

// takesValue has every option that is known. Those that keyOptions has no field for are about what this server does not have.
var takesValue = map[string]bool{
	"from": true, "expiry-time": true, "principals": true, "permitopen": true, "permitlisten": true,
	"command": true, "environment": true, "tunnel": true,

	"cert-authority": false, "restrict": false, "port-forwarding": false, "no-port-forwarding": false,
	"no-touch-required": false, "verify-required": false,
	"agent-forwarding": false, "no-agent-forwarding": false, "x11-forwarding": false, "no-x11-forwarding": false,
	"pty": false, "no-pty": false, "user-rc": false, "no-user-rc": false,
}

// once are the options of which a second one would leave open which of the two holds.
var once = map[string]bool{"from": true, "expiry-time": true, "principals": true, "command": true}

// parseKeyOptions reads the options of a line. What it does not know is an error: it might have been a limit.
func parseKeyOptions(s string) (keyOptions, error) {
	o := keyOptions{forwarding: true}
	seen := map[string]bool{}
	for rest := s; rest != ""; {
		name, value, hasValue, after, err := cutOption(rest)
		if err != nil {
			return o, err
		}
		if rest = after; seen[name] && once[name] {
			return o, fmt.Errorf("the option %s is there twice", name)
		}
		seen[name] = true
		switch wants, known := takesValue[name]; {
		case !known:
			return o, fmt.Errorf("%q is no option that this server knows", name)
		case wants && !hasValue:
			return o, fmt.Errorf("the option %s has a value, in quotes", name)
		case hasValue && !wants:
			return o, fmt.Errorf("the option %s has no value", name)
		}
		if err := o.set(name, value); err != nil {
			return o, fmt.Errorf("%s: %w", name, err)
		}
	}
	if len(o.principals) > 0 && !o.authority {
		return o, errors.New("principals= needs cert-authority")
	}
	return o, nil
}

func (o *keyOptions) set(name, value string) (err error) {
	switch name {
	case "cert-authority":
		o.authority = true
	case "restrict", "no-port-forwarding":
		o.forwarding = false
	case "port-forwarding":
		o.forwarding = true
	case "no-touch-required":
		o.noTouch = true
	case "verify-required":
		o.verify = true
	case "principals":
		if o.principals = strings.Split(value, ","); strings.Contains(","+value+",", ",,") {
			return errors.New("a name is empty")
		}
	case "from":
		o.sources, err = parseSources(value)
	case "expiry-time":
		var t time.Time
		if t, err = parseExpiry(value); err == nil && (o.expires.IsZero() || t.Before(o.expires)) {
			o.expires = t
		}
	case "permitopen":
		var p place
		if p, err = parsePlace(value, false); err == nil {
			o.open = append(o.open, p)
		}
	case "permitlisten":
		var p place
		if p, err = parsePlace(value, true); err == nil {
			o.listen = append(o.listen, p)
		}
	}
	return err
}

// cutOption cuts one option from the start: a name, and a value in quotes if there is one, in which \" is a quote.
func cutOption(s string) (name, value string, hasValue bool, rest string, err error) {
	end := strings.IndexAny(s, "=,")
	if end < 0 {
		end = len(s)
	}
	name = strings.ToLower(s[:end])
	if name == "" {
		return "", "", false, "", errors.New("an option is empty")
	}
	if s = s[end:]; strings.HasPrefix(s, "=") {
		if !strings.HasPrefix(s, `="`) {
			return name, "", true, "", fmt.Errorf("the value of %s stands in quotes", name)
		}
		var text strings.Builder
		i := 2
		for ; i < len(s) && s[i] != '"'; i++ {
			if s[i] == '\\' && i+1 < len(s) && s[i+1] == '"' {
				i++
			}
			text.WriteByte(s[i])
		}
		if i >= len(s) {
			return name, "", true, "", fmt.Errorf("the value of %s has no closing quote", name)
		}
		value, hasValue, s = text.String(), true, s[i+1:]
	}
	switch {
	case s == "":
	case s[0] != ',':
		return name, value, hasValue, "", fmt.Errorf("after %s comes a comma or the key", name)
	case s == ",":
		return name, value, hasValue, "", errors.New("an option is empty")
	default:
		rest = s[1:]
	}
	return name, value, hasValue, rest, nil
}

// parseExpiry reads YYYYMMDD[HHMM[SS]] in local time, or in UTC with a Z behind it. A day alone ends when it starts.
func parseExpiry(s string) (time.Time, error) {
	digits, utc := strings.CutSuffix(strings.ToUpper(s), "Z")
	zone := time.Local
	if utc {
		zone = time.UTC
	}
	for _, layout := range []string{"20060102", "200601021504", "20060102150405"} {
		if len(layout) == len(digits) {
			if t, err := time.ParseInLocation(layout, digits, zone); err == nil {
				return t, nil
			}
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time; write it like 20271231 or 202712312359Z", s)
}

// parsePlace reads host:port. The port may be "*"; with bare, it may stand alone for any host.
func parsePlace(s string, bare bool) (place, error) {
	host, port, found := "*", s, false
	if strings.HasPrefix(s, "[") {
		addr, after, ok := strings.Cut(s[1:], "]")
		if port, found = strings.CutPrefix(after, ":"); !ok || !found || addr == "" {
			return place{}, fmt.Errorf("%q is not [address]:port", s)
		}
		host = addr
	} else if at := strings.LastIndexByte(s, ':'); at >= 0 {
		if host, port = s[:at], s[at+1:]; host == "" || strings.Contains(host, ":") {
			return place{}, fmt.Errorf("%q is not host:port; an IPv6 address stands in brackets", s)
		}
	} else if !bare {
		return place{}, fmt.Errorf("%q has no port; write host:port or host:*", s)
	}
	if port == "*" {
		return place{host: strings.ToLower(host)}, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return place{}, fmt.Errorf("%q is no port", port)
	}
	return place{strings.ToLower(host), uint16(n)}, nil
}
