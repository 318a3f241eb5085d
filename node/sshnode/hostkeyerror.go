package sshnode

import (
	"cmp"
	"fmt"
	"net"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A HostKeyError is that the key of a server is not to be believed.
type HostKeyError struct {
	Host        string // as known_hosts has it: "host" or "[host]:port"
	Type        string // of the key that the server has
	Fingerprint string // of that key, SHA256
	Known       []KnownKey
	Revoked     bool
	Err         error // for an unknown host: why it could not be accepted; for a certificate: what is wrong with it
	file        string
	key         ssh.PublicKey
}

// A KnownKey is a key that a file has.
type KnownKey struct {
	File        string
	Line        int
	Type        string
	Fingerprint string
	CA          bool // it signs keys of hosts
	Revoked     bool
	key         ssh.PublicKey
}

func (k KnownKey) where() string {
	if k.Line == 0 {
		return k.File
	}
	return fmt.Sprintf("%s:%d", k.File, k.Line)
}

func (e *HostKeyError) Error() string {
	has := fmt.Sprintf("%s %s", e.Type, e.Fingerprint)
	switch {
	case e.Revoked:
		where := ""
		for _, k := range e.Known {
			where += " in " + k.where()
		}
		return fmt.Sprintf("host key of %s is revoked: it is %s, which stands%s; do not connect until the server has another one", e.Host, has, where)
	case len(e.Known) == 0 && e.Err != nil && e.key == nil:
		return fmt.Sprintf("host key of %s (%s) is not to be believed: %v", e.Host, has, e.Err)
	case len(e.Known) == 0:
		why := ""
		if e.Err != nil {
			why = ": " + e.Err.Error()
		}
		return fmt.Sprintf("host key of %s is not known%s: the server has %s; compare that with ssh-keygen -lf on the server itself, then %s, or have new keys accepted (accept_new = true of the node, StrictHostKeyChecking=accept-new of ssh_config)",
			e.Host, why, has, e.scan())
	}
	var old []string
	for _, k := range e.Known {
		old = append(old, fmt.Sprintf("%s has %s %s", k.where(), k.Type, k.Fingerprint))
	}
	return fmt.Sprintf("host key of %s has changed: the server has %s, but %s; either somebody is in between, or the server got a new key: if you know that it did, remove the old one with ssh-keygen -f '%s' -R '%s'",
		e.Host, has, strings.Join(old, " and "), e.Known[0].File, e.Host)
}

func (e *HostKeyError) Unwrap() error { return e.Err }

func (e *HostKeyError) scan() string {
	host, port := e.Host, ""
	if h, p, err := net.SplitHostPort(e.Host); err == nil {
		host, port = h, "-p "+p+" "
	}
	file := cmp.Or(e.file, "~/.ssh/known_hosts")
	return fmt.Sprintf("add it with ssh-keyscan %s%s >> %s", port, host, file)
}
