package sshd

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// What a certificate may carry (PROTOCOL.certkeys of OpenSSH, critical options and extensions).
const (
	optionSource      = "source-address"
	optionCommand     = "force-command" // there are no commands, so none but that one is run
	extensionForward  = "permit-port-forwarding"
	extensionNoTouch  = "no-touch-required"
	longestCertWindow = 1<<63 - 1
)

var errExpired = errors.New("the key has expired")

// checkCert holds a certificate to its own limits and to those of the line with its authority, and takes from r what the
// certificate does not give. An option that is not known is a refusal: that is what critical means.
func (l *keyLine) checkCert(r *Rights, cert *ssh.Certificate, user string, from netip.Addr, now time.Time) error {
	if cert.CertType != ssh.UserCert {
		return errors.New("the certificate is for a host")
	}
	if err := checkStrength(cert.Key); err != nil {
		return err
	}
	if cert.Signature == nil || cert.Signature.Format == ssh.KeyAlgoRSA {
		return errors.New("the authority has signed the certificate with SHA-1, which can be forged; have it signed anew")
	}
	wanted := []string{user}
	if l.principals != nil {
		wanted = l.principals
	}
	at := slices.IndexFunc(cert.ValidPrincipals, func(p string) bool { return slices.Contains(wanted, p) })
	if at < 0 {
		return fmt.Errorf("the certificate is for %q, not for %q", cert.ValidPrincipals, wanted)
	}
	checker := ssh.CertChecker{
		SupportedCriticalOptions: []string{optionSource, optionCommand},
		Clock:                    func() time.Time { return now },
	}
	if err := checker.CheckCert(cert.ValidPrincipals[at], cert); err != nil {
		return err
	}
	if list, ok := cert.CriticalOptions[optionSource]; ok && !inSources(list, from) {
		return fmt.Errorf("the certificate is not for clients from %s", from)
	}
	if cert.ValidBefore < longestCertWindow {
		if end := time.Unix(int64(cert.ValidBefore), 0); r.expires.IsZero() || end.Before(r.expires) {
			r.expires = end
		}
	}
	if _, ok := cert.Extensions[extensionForward]; !ok {
		r.forwarding = false
	}
	// An authority for everybody decides itself; one of a line may give no more than the line does.
	_, noTouch := cert.Extensions[extensionNoTouch]
	if noTouch && !l.noTouch && !l.global {
		return errors.New("the certificate waives touch, and the line of its authority has no no-touch-required")
	}
	r.noTouch = noTouch
	return nil
}

// inSources reports whether addr is in the list of source-address: addresses and networks, no patterns.
func inSources(list string, addr netip.Addr) bool {
	addr = addr.Unmap().WithZone("")
	for word := range strings.SplitSeq(list, ",") {
		if a, err := netip.ParseAddr(word); err == nil && a.Unmap() == addr {
			return true
		}
		if p, err := parseNetwork(word); err == nil && p.Contains(addr) {
			return true
		}
	}
	return false
}
