package link

import (
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"slices"

	"github.com/fairlead-net/fairlead/tunnel"
)

// ALPN is the protocol that both ends of a link say they speak (RFC 7301), by which the hub knows agents on its port.
const ALPN = "fairlead/1"

// protocols are all that agents say they speak.
func protocols() []string { return []string{ALPN, measureALPN, sideALPN} }

// ErrNoKey is that the other end did not show an Ed25519 key.
var ErrNoKey = errors.New("the other end showed no Ed25519 key")

// A WrongKeyError is that what answers at the hub's address has not the key that the agent has pinned.
type WrongKeyError struct{ Want, Got tunnel.Key }

func (e *WrongKeyError) Error() string {
	return fmt.Sprintf("the hub has the key %v, and not %v, which this agent was enrolled with: if the hub was set up anew, join it again with a new token; "+
		"if not, somebody else answers at its address", e.Got, e.Want)
}

// hubTLS is what a hub says to agents. There are no tickets: a key is proven for each link, and nothing that was recorded can be used again.
func hubTLS(i *Identity) *tls.Config {
	c := commonTLS(i)
	c.NextProtos = protocols()
	c.ClientAuth = tls.RequireAnyClientCert // signed with its key (RFC 8446, section 4.4.3); by whom it was issued is nobody's business
	c.VerifyConnection = func(s tls.ConnectionState) error {
		_, err := peerKey(s)
		return err
	}
	return c
}

// agentTLS is what an agent says to the hub that has the key want.
func agentTLS(i *Identity, want tunnel.Key) *tls.Config {
	c := commonTLS(i)
	c.InsecureSkipVerify = true // the key is compared instead, below
	c.VerifyConnection = func(s tls.ConnectionState) error {
		got, err := peerKey(s)
		switch {
		case err != nil:
			return err
		case got != want:
			return &WrongKeyError{want, got}
		case !slices.Contains(protocols(), s.NegotiatedProtocol):
			return fmt.Errorf("the hub speaks %q, and not %s", s.NegotiatedProtocol, ALPN)
		}
		return nil
	}
	return c
}

func commonTLS(i *Identity) *tls.Config {
	return &tls.Config{
		Certificates:                []tls.Certificate{i.cert},
		NextProtos:                  []string{ALPN},
		MinVersion:                  tls.VersionTLS13,
		SessionTicketsDisabled:      true,
		DynamicRecordSizingDisabled: true, // records that begin small are for browsers
	}
}

// peerKey is the key of the certificate that the other end has proven to have.
func peerKey(s tls.ConnectionState) (tunnel.Key, error) {
	if len(s.PeerCertificates) == 0 {
		return tunnel.Key{}, ErrNoKey
	}
	public, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(public) != len(tunnel.Key{}) {
		return tunnel.Key{}, ErrNoKey
	}
	return tunnel.Key(public), nil
}
