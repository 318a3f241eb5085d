package sshwire

import (
	"crypto/rand"
	"slices"
	"strings"
)

// Names of what is spoken.
const (
	KexMLKEM768X25519 = "mlkem768x25519-sha256" // draft-ietf-sshm-mlkem-hybrid-kex
	KexCurve25519     = "curve25519-sha256"     // RFC 8731
	kexCurve25519Old  = "curve25519-sha256@libssh.org"

	CipherAES128GCM = "aes128-gcm@openssh.com" // OpenSSH's PROTOCOL, section 1.6
	CipherAES256GCM = "aes256-gcm@openssh.com"

	strictClient  = "kex-strict-c-v00@openssh.com" // OpenSSH's PROTOCOL, section 1.10
	strictServer  = "kex-strict-s-v00@openssh.com"
	extInfoClient = "ext-info-c" // RFC 8308, section 2.1
)

// Algorithms are what may be used, the best first; nil is all that there is.
type Algorithms struct {
	KeyExchanges []string
	Ciphers      []string
}

func (a Algorithms) complete() Algorithms {
	a.KeyExchanges = known(a.KeyExchanges, KexMLKEM768X25519, KexCurve25519, kexCurve25519Old)
	a.Ciphers = known(a.Ciphers, CipherAES128GCM, CipherAES256GCM)
	return a
}

// known is those of asked that we have, or all.
func known(asked []string, have ...string) []string {
	if asked == nil {
		return have
	}
	return slices.DeleteFunc(slices.Clone(asked), func(name string) bool { return !slices.Contains(have, name) })
}

// macs are named although AES-GCM needs none, because some peers end the exchange when there is none in common.
// A server names the good ones alone.
func (t *transport) macs() []string {
	good := []string{"hmac-sha2-256-etm@openssh.com", "hmac-sha2-512-etm@openssh.com"}
	if t.client {
		return append(good, "hmac-sha2-256", "hmac-sha2-512")
	}
	return good
}

// kexInit is the message by which each end says what it has (RFC 4253, section 7.1).
type kexInit struct {
	kex, hostKeys []string
	ciphers       [2][]string // client to server, and back
	macs          [2][]string
	compressions  [2][]string
	languages     [2][]string
	guessed       bool // what follows is a guess at the first message of the exchange
}

// The two ways of a connection, in the order of a KEXINIT.
const (
	toServer = 0
	toClient = 1
)

func (k *kexInit) marshal() []byte {
	b := append(make([]byte, 0, 1024), msgKexInit)
	var cookie [16]byte
	_, _ = rand.Read(cookie[:]) // does not fail (crypto/rand)
	b = append(b, cookie[:]...)
	b = appendNames(b, k.kex)
	b = appendNames(b, k.hostKeys)
	for _, lists := range [][2][]string{k.ciphers, k.macs, k.compressions, k.languages} {
		b = appendNames(b, lists[toServer])
		b = appendNames(b, lists[toClient])
	}
	b = appendBool(b, k.guessed)
	return appendU32(b, 0)
}

func parseKexInit(payload []byte) (*kexInit, error) {
	r := reader{b: payload}
	k := &kexInit{}
	r.take(1 + 16)
	k.kex, k.hostKeys = r.names(), r.names()
	for _, lists := range []*[2][]string{&k.ciphers, &k.macs, &k.compressions, &k.languages} {
		lists[toServer], lists[toClient] = r.names(), r.names()
	}
	k.guessed = r.bool()
	r.u32()
	if r.bad {
		return nil, broken("its KEXINIT is cut short")
	}
	return k, nil
}

// agreed is what two KEXINITs lead to.
type agreed struct {
	kex, hostKey string
	ciphers      [2]string
	wrongGuess   bool // of the end that guessed
}

// agree takes of each list the client's first that the server has, too (RFC 4253, section 7.1). theirs is only to name what
// the peer has, if nothing is common.
func agree(client, server, theirs *kexInit) (*agreed, error) {
	a := &agreed{}
	for _, list := range []struct {
		what              string
		to                *string
		client, serverHas []string
		theirs            []string
	}{
		{"key exchange", &a.kex, client.kex, server.kex, theirs.kex},
		{"kind of host key", &a.hostKey, client.hostKeys, server.hostKeys, theirs.hostKeys},
		{"cipher", &a.ciphers[toServer], client.ciphers[toServer], server.ciphers[toServer], theirs.ciphers[toServer]},
		{"cipher", &a.ciphers[toClient], client.ciphers[toClient], server.ciphers[toClient], theirs.ciphers[toClient]},
		{"compression", new(string), client.compressions[toServer], server.compressions[toServer], theirs.compressions[toServer]},
		{"compression", new(string), client.compressions[toClient], server.compressions[toClient], theirs.compressions[toClient]},
	} {
		i := slices.IndexFunc(list.client, func(name string) bool {
			return !isMarker(name) && slices.Contains(list.serverHas, name)
		})
		if i < 0 {
			return nil, &UnsupportedError{What: list.what, Theirs: list.theirs}
		}
		*list.to = list.client[i]
	}
	a.wrongGuess = client.kex[0] != server.kex[0] || client.hostKeys[0] != server.hostKeys[0]
	return a, nil
}

// isMarker reports whether a name among the key exchanges says something else.
func isMarker(name string) bool {
	return strings.HasPrefix(name, "ext-info-") || strings.HasPrefix(name, "kex-strict-")
}
