package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// An ACME is the [acme] table: the authority that certificates are had from (RFC 8555).
type ACME struct {
	Email     string
	Directory string // URL; "" is Let's Encrypt's
	CA        string // file with what the directory's own certificate is checked by; "" is what this host trusts
}

// An acmeTable is [acme] as it is written.
type acmeTable struct {
	Email     string
	Directory string
	CA        string
}

func (t *acmeTable) field(key string) any {
	switch key {
	case "email":
		return &t.Email
	case "directory":
		return &t.Directory
	case "ca":
		return &t.CA
	}
	return nil
}

func acmeSheet(t *acmeTable) sheet {
	return sheet{name: "acme", what: "certificate authority", field: t.field, help: helpACME, keys: []string{"email", "directory", "ca"}}
}

func helpACME(key string) string {
	switch key {
	case "email":
		return `email is where the authority writes to when something is wrong, such as "admin@example.com"`
	case "directory":
		return `directory is the URL of the authority, such as "https://acme-staging-v02.api.letsencrypt.org/directory"; left out, it is Let's Encrypt`
	case "ca":
		return `ca is the absolute path of a file in PEM, by which the authority's own certificate is checked`
	}
	return ""
}

func (r *reader) readACME(n *node) {
	t := acmeTable{}
	s := acmeSheet(&t)
	if !n.shape.isTable() {
		r.add(s.notTable(n))
		return
	}
	bad := r.fill(n, s)
	acme, err := t.acme()
	r.refuse(n, s, bad, err)
	r.settings.ACME = acme
}

// acme is the authority that t describes.
func (t acmeTable) acme() (ACME, error) {
	var c checker
	if t.Email != "" && (!strings.Contains(t.Email, "@") || strings.ContainsAny(t.Email, " ,<>\r\n")) {
		c.check("email", fmt.Errorf("%q is no address of mail", t.Email))
	}
	if t.Directory != "" {
		if u, err := url.Parse(t.Directory); err != nil || u.Scheme != "https" || u.Host == "" {
			c.check("directory", errors.New("the directory of an authority is a URL that begins with https://"))
		}
	}
	if t.CA != "" {
		c.check("ca", checkFile(t.CA, false))
	}
	return ACME(t), c.err()
}
