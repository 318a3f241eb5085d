package config

import (
	"errors"
	"slices"

	"github.com/fairlead-net/fairlead/forward"
)

// namesField is field for the keys of a forward that is chosen by name.
func (s *Spec) namesField(key string) any {
	switch key {
	case "host":
		return &s.Host
	case "tls":
		return &s.TLS
	case "cert":
		return &s.Cert
	case "key":
		return &s.Key
	case "auth":
		return &s.Auth
	case "allow":
		return &s.Allow
	case "away_page":
		return &s.AwayPage
	case "redirect_https":
		return &s.RedirectHTTPS
	}
	return nil
}

// namesHelp is Help for the same keys.
func namesHelp(key string) string {
	switch key {
	case "host":
		return `host is a name that clients call by HTTP or TLS, such as "blog.example.com", "*.example.com" or "*" for all others, or a list of them`
	case "tls":
		return `tls is "pass" (the default: the target has the certificate) or "acme", beside host; cert and key are for a certificate of your own`
	case "cert", "key":
		return key + ` is the absolute path of a file in PEM, such as "/etc/ssl/blog.pem"; cert and key stand together`
	case "auth":
		return `auth is "basic" or "oidc", beside host; leave it out for everybody`
	case "allow":
		return `allow is one or several of "anna@example.com" and "@example.com", beside auth = "oidc"; leave it out for whoever the provider logs in`
	case "away_page":
		return `away_page is the absolute path of a file of HTML, beside host; leave it out for a plain page`
	case "redirect_https":
		return `redirect_https is true or false (the default), beside host: whether http:// leads to https://`
	}
	return ""
}

// named reads into f the names that it is chosen by, and what is done for their clients.
func (s Spec) named(f *forward.Forward, check func(field string, err error)) {
	var err error
	f.Hosts, err = parseList(s.Host, "leave host out for all clients of the port", forward.ParseHost)
	check("host", err)
	f.Site.TLS, err = forward.ParseTLS(s.TLS)
	check("tls", err)
	if s.TLS == "" && (s.Cert != "" || s.Key != "") {
		f.Site.TLS = forward.TLSFiles
	}
	f.Site.Auth, err = forward.ParseAuth(s.Auth)
	check("auth", err)
	f.Site.Allow, err = parseList(s.Allow, "leave allow out for whoever the provider logs in", func(s string) (string, error) { return s, nil })
	check("allow", err)
	for _, one := range []struct {
		key  string
		path string
		to   *string
	}{{"cert", s.Cert, &f.Site.Cert}, {"key", s.Key, &f.Site.Key}, {"away_page", s.AwayPage, &f.Site.AwayPage}} {
		if one.path != "" {
			check(one.key, checkFile(one.path, false))
		}
		*one.to = one.path
	}
	f.Site.RedirectHTTPS = s.RedirectHTTPS
}

// describeNames is the other way round.
func (s *Spec) describeNames(f *forward.Forward) {
	s.Host, s.Allow = slices.Clone(f.Hosts), slices.Clone(f.Site.Allow)
	s.Cert, s.Key, s.AwayPage, s.RedirectHTTPS = f.Site.Cert, f.Site.Key, f.Site.AwayPage, f.Site.RedirectHTTPS
	if f.Site.TLS != forward.TLSPass {
		s.TLS = f.Site.TLS.String()
	}
	if f.Site.Auth != forward.AuthNone {
		s.Auth = f.Site.Auth.String()
	}
}

// CheckProvider says whether there is a provider where people log in to f at one.
func CheckProvider(f *forward.Forward, o OIDC) error {
	if f.Site.Auth != forward.AuthOIDC || o.Issuer != "" {
		return nil
	}
	return &forward.FieldError{Field: "auth", Err: withHint{errors.New("there is no provider where people could log in"), "declare it in the file, below [oidc]: issuer, client_id and client_secret"}}
}

// checkLogins says whether anybody could log in to f where that takes a user.
func checkLogins(f *forward.Forward, list []forward.User) error {
	if f.Site.Auth == forward.AuthBasic && len(f.Users) == 0 && len(list) == 0 {
		return withHint{errors.New("nobody could log in: no user is declared"), "`fairlead user add NAME` declares one"}
	}
	return nil
}
