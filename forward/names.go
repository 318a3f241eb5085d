package forward

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// AnyName is the name in Hosts that stands for every client whom no other name of the port is for.
const AnyName = "*"

// ChosenByName is why the kernel cannot carry a forward with Hosts.
const ChosenByName = "chosen by host name"

const maxHosts = 100 // names of one forward

// A Site is what is done for the clients of a forward with Hosts besides finding it by the name that they call.
type Site struct {
	TLS           TLS
	Cert, Key     string   // files in PEM, of TLSFiles
	Auth          Auth     // who may, before the target is asked
	Allow         []string // with AuthOIDC: addresses ("anna@example.com") or domains ("@example.com"); none: whoever the provider logs in
	AwayPage      string   // a file of HTML that is shown when no target answers; "": a plain page
	RedirectHTTPS bool     // who calls without TLS is sent to https://
}

// Equal reports whether s and t are the same.
func (s Site) Equal(t Site) bool {
	return slices.Equal(s.Allow, t.Allow) && s.TLS == t.TLS && s.Cert == t.Cert && s.Key == t.Key && s.Auth == t.Auth && s.AwayPage == t.AwayPage && s.RedirectHTTPS == t.RedirectHTTPS
}

func (s Site) isZero() bool { return s.Equal(Site{}) }

// TLS is what becomes of clients who speak TLS.
type TLS uint8

// What becomes of them.
const (
	TLSPass  TLS = iota // the target has the certificate: bytes pass untouched
	TLSACME             // ended here, with a certificate that an authority issues by ACME (RFC 8555)
	TLSFiles            // ended here, with the certificate in Site.Cert
)

var tlsWords = []string{"pass", "acme", "files"}

func (t TLS) String() string { return tlsWords[t] }

// ParseTLS reads what String writes; "" is TLSPass.
func ParseTLS(s string) (TLS, error) {
	at := slices.Index(tlsWords, s)
	if s == "" {
		at = 0
	}
	if at < 0 {
		return 0, fmt.Errorf("%q is no way to treat TLS", s)
	}
	return TLS(at), nil
}

// Auth is how people log in before the target is asked.
type Auth uint8

// How they do.
const (
	AuthNone  Auth = iota
	AuthBasic      // with a name and password of Users (RFC 7617)
	AuthOIDC       // at a provider of OpenID Connect
)

var authWords = []string{"none", "basic", "oidc"}

func (a Auth) String() string { return authWords[a] }

// ParseAuth reads what String writes; "" is AuthNone.
func ParseAuth(s string) (Auth, error) {
	at := slices.Index(authWords, s)
	if s == "" {
		at = 0
	}
	if at < 0 {
		return 0, fmt.Errorf("%q is no way to log in here", s)
	}
	return Auth(at), nil
}

// ByName reports whether f is told apart from others on its port by the name that a client calls, on this host: a node that listens
// for f elsewhere does so there.
func (f *Forward) ByName() bool { return len(f.Hosts) > 0 && f.ListensAt() == Host }

// Serves reports whether host, as NameCalled has it, is a name of f. Every forward without Hosts serves every name.
func (f *Forward) Serves(host string) bool {
	if !f.ByName() {
		return true
	}
	return slices.ContainsFunc(f.Hosts, func(name string) bool {
		return name == AnyName || host != "" && (name == host || name == wildcardOf(host))
	})
}

// claimNames are the names by which f claims traffic: "" is all that no other name is for.
func (f *Forward) claimNames(yield func(string) bool) {
	if !f.ByName() {
		yield("")
		return
	}
	for _, name := range f.Hosts {
		if name == AnyName {
			name = ""
		}
		if !yield(name) {
			return
		}
	}
}

// wildcardOf is the wildcard that host falls under: a wildcard stands for one label.
func wildcardOf(host string) string {
	_, parent, found := strings.Cut(host, ".")
	if !found {
		return ""
	}
	return "*." + parent
}

// Limits of DNS names (RFC 1035, section 2.3.4).
const (
	maxNameLength  = 253
	maxLabelLength = 63
)

// ParseHost reads a name of Hosts: "blog.example.com", "*.example.com" or "*". It comes out in lower case.
func ParseHost(s string) (string, error) {
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if name == AnyName {
		return name, nil
	}
	plain := strings.TrimPrefix(name, "*.")
	switch at := strings.IndexFunc(s, func(r rune) bool { return r > 0x7f }); {
	case at >= 0:
		return "", fmt.Errorf("%q is not written as clients call it; the letters of other scripts have a form in ASCII that begins with xn--", s)
	case strings.Contains(plain, "*"):
		return "", fmt.Errorf("%q has a star elsewhere than for the whole first label", s)
	case strings.Contains(s, "://") || strings.ContainsAny(s, "/:"):
		return "", fmt.Errorf("%q is more than a name; the port stands in listen, and paths are the target's", s)
	case name != plain && !strings.Contains(plain, "."):
		return "", fmt.Errorf("%q would be all of a top-level domain", s)
	}
	if !isName(plain) {
		return "", fmt.Errorf("%q is no host name", s)
	}
	return name, nil
}

// NameCalled is the name that a client has called, without a port, in lower case; "" where that is no name. It is what routes a
// client and what its rights are looked up by, so everybody has it from here.
func NameCalled(s string) string {
	if host, port, found := strings.Cut(s, ":"); found {
		if strings.Trim(port, "0123456789") != "" {
			return ""
		}
		s = host
	}
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if !isName(s) {
		return ""
	}
	return s
}

// isName reports whether s, in lower case, is a host name. The underscore is no letter of one (RFC 952), and in use.
func isName(s string) bool {
	if s == "" || len(s) > maxNameLength {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > maxLabelLength || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return true
}

func (f *Forward) validateNames(bad func(field, format string, args ...any)) {
	if len(f.Hosts) == 0 {
		if !f.Site.isZero() {
			bad(f.Site.firstKey(), "%s is for a forward that is chosen by name; write host = \"…\"", f.Site.firstKey())
		}
		return
	}
	if len(f.Hosts) > maxHosts {
		bad("host", "the forward has %d names; %d is the most", len(f.Hosts), maxHosts)
	}
	for i, name := range f.Hosts {
		if parsed, err := ParseHost(name); err != nil {
			bad("host", "%w", err)
		} else if parsed != name {
			bad("host", "%q is not in lower case", name)
		} else if slices.Contains(f.Hosts[:i], name) {
			bad("host", "%q is named twice", name)
		}
	}
	f.validateNamed(bad)
	f.Site.validate(f.Hosts, bad)
}

// validateNamed looks at what does not go together with names.
func (f *Forward) validateNamed(bad func(field, format string, args ...any)) {
	ranges := slices.ContainsFunc(f.Listen.Ports.Ranges, func(r Range) bool { return r.First != r.Last })
	switch {
	case f.Listen.IsUnix():
		bad("host", "names are told apart on a port, and listen is a unix socket")
	case f.Listen.Networks != TCP:
		bad("host", "names are told apart in HTTP and TLS over tcp, and listen is %s", f.Listen.Networks)
	case f.Listen.Ports.All || ranges:
		bad("host", "names are told apart on single ports, such as listen = \"80,443\"")
	}
	if f.Dynamic() != HeadNone {
		bad("host", "clients of a proxy name where they go, not whom they call")
	}
	if f.Helper != HelperNone {
		bad("helper", "helper reads another protocol than those that name a host")
	}
	if len(f.Except) > 0 {
		bad("except", "except and host do not go together; say who is served in from")
	}
	if at := f.ListensAt(); at != Host {
		rest := f.Site
		if rest.RedirectHTTPS = false; rest.TLS != TLSFiles {
			rest.TLS = TLSPass
		}
		if !rest.isZero() {
			bad(rest.firstKey(), "%s is a matter of node %s, which listens; of what is beside host it takes tls = \"acme\" and redirect_https", rest.firstKey(), at)
		}
	}
}

func (s Site) validate(hosts []string, bad func(field, format string, args ...any)) {
	wild := slices.IndexFunc(hosts, func(name string) bool { return strings.HasPrefix(name, "*") })
	switch {
	case s.TLS == TLSACME && wild >= 0:
		bad("tls", "no certificate for %s is issued by HTTP-01 or TLS-ALPN-01; write the names, or give cert and key", hosts[wild])
	case s.TLS == TLSFiles && (s.Cert == "" || s.Key == ""):
		bad("cert", "a certificate has two files; write cert = \"….pem\" and key = \"….pem\"")
	case s.TLS != TLSFiles && (s.Cert != "" || s.Key != ""):
		bad("tls", "tls = %q does not use cert and key", s.TLS)
	}
	if s.Auth != AuthOIDC && len(s.Allow) > 0 {
		bad("allow", "allow is for auth = \"oidc\"")
	}
	if s.Auth != AuthNone && s.TLS == TLSPass {
		bad("auth", "who logs in has to be seen, and with tls = \"pass\" requests are not; write tls = \"acme\", or cert and key")
	}
	for _, a := range s.Allow {
		if err := checkAllowed(a); err != nil {
			bad("allow", "%w", err)
		}
	}
}

func checkAllowed(s string) error {
	if at := strings.LastIndexByte(s, '@'); at < 0 || strings.ContainsAny(s, " ,\t\r\n") || !isName(strings.ToLower(s[at+1:])) {
		return errors.New("allow has addresses such as \"anna@example.com\", and domains such as \"@example.com\"")
	}
	return nil
}

// firstKey is the first key of s that says something.
func (s Site) firstKey() string {
	switch {
	case s.Cert != "":
		return "cert"
	case s.Key != "":
		return "key"
	case s.TLS != TLSPass:
		return "tls"
	case s.Auth != AuthNone:
		return "auth"
	case len(s.Allow) > 0:
		return "allow"
	case s.AwayPage != "":
		return "away_page"
	}
	return "redirect_https"
}
