package hub

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"

	"github.com/fairlead-net/fairlead/tunnel"
)

// A Token lets one machine enrol, once. Written out it is one word that has the hub's key in it, so that who joins by it goes on with
// no other hub:
//
//	base64url( version (1) · hub's key (32) · id (6) · secret (18) · first bytes of SHA-256 of all before (3) )
type Token struct {
	Hub tunnel.Key
	ID  [6]byte // says which token it is, and is no secret
	Key [18]byte
}

const (
	tokenVersion = 1
	tokenSum     = 3
	tokenBytes   = 1 + len(tunnel.Key{}) + len(Token{}.ID) + len(Token{}.Key) + tokenSum
	secretBytes  = len(Token{}.ID) + len(Token{}.Key)
)

// The answers to a token that cannot be one. They do not repeat it, as it may be secret.
var (
	ErrToken        = errors.New("that is no join token, or a part of one; it is a word of 80 letters, digits, - and _ that the hub prints")
	ErrTokenVersion = errors.New("the join token is for a newer fairlead than this one")
)

func newToken(hub tunnel.Key) Token {
	t := Token{Hub: hub}
	_, _ = rand.Read(t.ID[:]) // never fails
	_, _ = rand.Read(t.Key[:])
	return t
}

// String is the token, in full.
func (t Token) String() string {
	b := make([]byte, 0, tokenBytes)
	b = append(b, tokenVersion)
	b = append(b, t.Hub[:]...)
	b = append(b, t.ID[:]...)
	b = append(b, t.Key[:]...)
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(append(b, sum[:tokenSum]...))
}

// ParseToken reads what String writes.
func ParseToken(text string) (Token, error) {
	if len(text) != base64.RawURLEncoding.EncodedLen(tokenBytes) {
		return Token{}, ErrToken
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != tokenBytes {
		return Token{}, ErrToken
	}
	sum := sha256.Sum256(b[:tokenBytes-tokenSum])
	switch {
	case [tokenSum]byte(sum[:tokenSum]) != [tokenSum]byte(b[tokenBytes-tokenSum:]):
		return Token{}, ErrToken
	case b[0] != tokenVersion:
		return Token{}, ErrTokenVersion
	}
	var t Token
	b = b[1:]
	b = b[copy(t.Hub[:], b):]
	b = b[copy(t.ID[:], b):]
	copy(t.Key[:], b)
	return t, nil
}

// Secret is what an agent says to the hub: the token without the hub's key (tunnel.Hello).
func (t Token) Secret() string {
	return base64.RawURLEncoding.EncodeToString(append(t.ID[:], t.Key[:]...))
}

// id is the name of the token in the registry.
func (t Token) id() string { return hex.EncodeToString(t.ID[:]) }

// hash is what the hub keeps of the token.
func (t Token) hash() [sha256.Size]byte { return sha256.Sum256(t.Key[:]) }

// parseSecret reads what Secret writes.
func parseSecret(text string) (Token, bool) {
	if len(text) != base64.RawURLEncoding.EncodedLen(secretBytes) {
		return Token{}, false
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(b) != secretBytes {
		return Token{}, false
	}
	var t Token
	copy(t.Key[:], b[copy(t.ID[:], b):])
	return t, true
}

// is reports whether t's hash is the one that was kept, in a time that does not depend on where they differ.
func (t Token) is(kept []byte) bool {
	h := t.hash()
	return subtle.ConstantTimeCompare(h[:], kept) == 1
}
