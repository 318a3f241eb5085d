package config

import (
	"errors"
	"net/url"
)

// An OIDC is the [oidc] table: the provider of OpenID Connect where people log in.
type OIDC struct {
	Issuer       string // URL
	ClientID     string
	ClientSecret Secret
	CA           string // file with what the provider's own certificate is checked by; "" is what this host trusts
}

// An oidcTable is [oidc] as it is written.
type oidcTable struct {
	Issuer       string
	ClientID     string
	ClientSecret Secret
	CA           string
}

func (t *oidcTable) field(key string) any {
	switch key {
	case "issuer":
		return &t.Issuer
	case "client_id":
		return &t.ClientID
	case "client_secret":
		return &t.ClientSecret
	case "ca":
		return &t.CA
	}
	return nil
}

func oidcSheet(t *oidcTable) sheet {
	return sheet{name: "oidc", what: "provider of logins", field: t.field, help: helpOIDC, keys: []string{"issuer", "client_id", "client_secret", "ca"}}
}

func helpOIDC(key string) string {
	switch key {
	case "issuer":
		return `issuer is the URL of the provider, such as "https://accounts.google.com"`
	case "client_id":
		return `client_id is the name that the provider has given to this program`
	case "client_secret":
		return `client_secret is the secret that the provider has given to this program`
	case "ca":
		return `ca is the absolute path of a file in PEM, by which the provider's own certificate is checked`
	}
	return ""
}

func (r *reader) readOIDC(n *node) {
	t := oidcTable{}
	s := oidcSheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return
	}
	bad := r.fill(n, s)
	provider, err := t.provider()
	r.refuse(n, s, bad, err)
	r.settings.OIDC = provider
}

// provider is what t describes.
func (t oidcTable) provider() (OIDC, error) {
	var c checker
	if u, err := url.Parse(t.Issuer); err != nil || u.Scheme != "https" || u.Host == "" {
		c.check("issuer", errors.New("the issuer is a URL that begins with https://"))
	}
	if t.ClientID == "" {
		c.check("client_id", errors.New("the provider has to know who asks"))
	}
	if t.ClientSecret == "" {
		c.check("client_secret", errors.New("the provider has to know who asks by a secret"))
	}
	if t.CA != "" {
		c.check("ca", checkFile(t.CA, false))
	}
	return OIDC(t), c.err()
}
