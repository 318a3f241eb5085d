package forward

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// CheckKind is the way in which targets are asked whether they are well.
type CheckKind uint8

// The kinds of checks.
const (
	CheckNone    CheckKind = iota // a target is well until a session could not be carried to it
	CheckConnect                  // it accepts a connection
	CheckHTTP                     // it answers a GET with a status of 200 to 399
)

// DefaultCheckInterval is the time from one check of a target to the next when nothing was said.
const DefaultCheckInterval = 5 * time.Second

// A Check is how targets are asked whether they are well, without a client. The zero Check is none.
type Check struct {
	Kind     CheckKind
	Host     string        // of an HTTP check: the Host header, as it stands in the URL; it is not looked up
	Port     uint16        // of an HTTP check: the port to connect to; 0 is that of the target
	Path     string        // of an HTTP check: the request target (RFC 9112, section 3.2.1), from the first slash on
	Interval time.Duration // 0: DefaultCheckInterval
}

// IsZero reports whether c is no check, and no interval of one either.
func (c Check) IsZero() bool { return c == Check{} }

// Every is the time from one check of a target to the next.
func (c Check) Every() time.Duration {
	if c.Interval == 0 {
		return DefaultCheckInterval
	}
	return c.Interval
}

// String is c the way ParseCheck reads it; the interval is not part of it.
func (c Check) String() string {
	switch c.Kind {
	case CheckConnect:
		return "connect"
	case CheckHTTP:
		return "http://" + c.Host + c.Path
	}
	return ""
}

// ParseCheck reads "connect" or an http:// URL; "" is no check.
func ParseCheck(s string) (Check, error) {
	const maxLen = 2000 // bytes; what every HTTP server takes as a request line and a Host header
	scheme, _, found := strings.Cut(s, "://")
	switch {
	case s == "":
		return Check{}, nil
	case s == "connect":
		return Check{Kind: CheckConnect}, nil
	case found && strings.EqualFold(scheme, "https"):
		return Check{}, errors.New("https:// is not supported; check by http://, or write \"connect\"")
	case !found || !strings.EqualFold(scheme, "http"):
		return Check{}, fmt.Errorf("%q is not known here; write \"connect\" or a URL such as \"http://app.example/health\"", s)
	case len(s) > maxLen:
		return Check{}, fmt.Errorf("the URL is %d bytes long; %d is the most", len(s), maxLen)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return Check{}, fmt.Errorf("%q is no URL", s)
	case u.User != nil:
		return Check{}, errors.New("the URL has a user name, which a check cannot send")
	case strings.Contains(s, "#"):
		return Check{}, fmt.Errorf("%q has a '#', and what follows it is never sent; leave it out", s)
	}
	c := Check{Kind: CheckHTTP, Host: u.Host, Path: u.RequestURI()}
	if strings.ContainsFunc(c.Path, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return Check{}, fmt.Errorf("%q has a character that has to be written %%XX in a URL", s)
	}
	if err := checkURLHost(u.Hostname()); err != nil {
		return Check{}, err
	}
	if strings.HasSuffix(u.Host, ":") {
		return Check{}, fmt.Errorf("%q ends where its port should be", u.Host)
	}
	if port := u.Port(); port != "" {
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil || n == 0 {
			return Check{}, fmt.Errorf("%q is no port; ports are 1 to 65535", port)
		}
		c.Port = uint16(n)
	}
	return c, nil
}

func checkURLHost(host string) error {
	if host == "" {
		return errors.New("the URL has no host; any name does, such as \"http://app.example/health\"")
	}
	addr, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		return checkHostname(host)
	case addr.Zone() != "":
		return fmt.Errorf("%q has a zone, which the host of a URL cannot have", host)
	}
	return nil
}

// CheckPort is the port at which a check asks target t, or 0 when it would be several. A unix socket has none.
func (f *Forward) CheckPort(t Target) uint16 {
	ports := f.Listen.Ports
	switch {
	case f.Check.Port != 0:
		return f.Check.Port
	case t.Ports.First != t.Ports.Last, t.Ports.IsZero() && (ports.All || ports.Count() != 1):
		return 0
	case t.Ports.IsZero():
		return ports.Ranges[0].First
	}
	return t.Ports.First
}

func (f *Forward) validateCheck(bad func(field, format string, args ...any)) {
	c := f.Check
	if c.Kind == CheckNone {
		if c.Interval != 0 {
			bad("check_interval", "check_interval says how often to check, but check says nothing; write check = \"connect\"")
		}
		return
	}
	if f.Listen.Networks == UDP && c.Port == 0 {
		bad("check", "a check connects by tcp, and listen is udp; check = \"http://host:PORT/path\" asks another port of the target")
		return
	}
	for _, t := range f.To {
		switch {
		case t.IsUnix() && c.Port != 0:
			bad("check", "the URL names a port, and %s has none; leave it out", t)
			return
		case !t.IsUnix() && f.CheckPort(t) == 0:
			bad("check", "%s has several ports here; check = \"http://host:PORT/path\" says which one to ask", t)
			return
		}
	}
}
