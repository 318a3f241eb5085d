package tunnel

import (
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
)

// A Key is the Ed25519 public key of a hub or an agent (RFC 8032), by which it is known.
type Key [ed25519.PublicKeySize]byte

// String is the key in base64url without padding (RFC 4648, section 5): 43 characters.
func (k Key) String() string { return base64.RawURLEncoding.EncodeToString(k[:]) }

// ParseKey reads what String writes.
func ParseKey(text string) (Key, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != len(Key{}) {
		return Key{}, fmt.Errorf("%q is no public key, which is 43 letters, digits, - and _", text)
	}
	return Key(b), nil
}

// IsZero reports whether k is no key.
func (k Key) IsZero() bool { return k == Key{} }
