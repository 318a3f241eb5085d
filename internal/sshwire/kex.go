package sshwire

import (
	"bytes"
	"crypto/cipher"
	"crypto/sha256"
	"slices"

	"golang.org/x/crypto/ssh"
)

// An exchange is one exchange of keys (RFC 4253, section 7), the first or a later one:
//
//	client                         server
//	KEXINIT ─────────────────────► ◄───────── KEXINIT    either may be first; from its own on, each end sends nothing
//	30, public value ────────────►                       but what belongs to the exchange,
//	               ◄───────────── 31, host key, value, signature
//	NEWKEYS ─────────────────────► ◄───────── NEWKEYS    until its own NEWKEYS
type exchange struct {
	mine, theirs []byte // KEXINIT
	agreed       *agreed
	method       kexMethod
	public       []byte // the client's value
	skip         bool   // the peer's next message is a guess that was wrong
	next         struct {
		aead cipher.AEAD // of what comes in, from NEWKEYS on
		iv   []byte
	}
	sentKeys bool
}

// blocks reports whether nothing may be sent but what belongs to the exchange.
func (x *exchange) blocks() bool { return x != nil && x.mine != nil && !x.sentKeys }

// startKex sends our KEXINIT, unless that has happened.
func (t *transport) startKex() {
	if t.exchange == nil {
		t.exchange = &exchange{}
	}
	if t.exchange.mine != nil {
		return
	}
	mine := t.proposal().marshal()
	t.send(mine)
	t.exchange.mine = mine
}

func (t *transport) proposal() *kexInit {
	k := &kexInit{
		kex:          slices.Clone(t.wanted.KeyExchanges),
		hostKeys:     t.hostKeys,
		ciphers:      [2][]string{t.wanted.Ciphers, t.wanted.Ciphers},
		macs:         [2][]string{t.macs(), t.macs()},
		compressions: [2][]string{{"none"}, {"none"}},
	}
	if t.session == nil {
		if t.client {
			k.kex = append(k.kex, extInfoClient, strictClient)
		} else {
			k.kex = append(k.kex, strictServer)
		}
	}
	return k
}

func (t *transport) receiveKex(p []byte) error {
	x := t.exchange
	switch p[0] {
	case msgKexInit:
		return t.receiveKexInit(p)
	case msgNewKeys:
		if x == nil || x.next.aead == nil || len(p) != 1 {
			return broken("NEWKEYS out of turn")
		}
		t.in.rekey(x.next.aead, x.next.iv, t.strict)
		t.exchange = nil
		return nil
	}
	if x == nil || x.agreed == nil || x.next.aead != nil {
		return broken("message %d of a key exchange out of turn", p[0])
	}
	if x.skip {
		x.skip = false
		return nil
	}
	switch {
	case p[0] == msgKexFirst && !t.client:
		return t.answerKex(p)
	case p[0] == msgKexReply && t.client:
		return t.finishKex(p)
	}
	return broken("message %d of a key exchange out of turn", p[0])
}

func (t *transport) receiveKexInit(p []byte) error {
	if t.exchange != nil && t.exchange.theirs != nil {
		return broken("a second KEXINIT")
	}
	theirs, err := parseKexInit(p)
	if err != nil {
		return err
	}
	mine := t.proposal()
	a, err := t.agree(mine, theirs)
	if err != nil {
		return err
	}
	if t.session == nil {
		markers := [2]string{strictServer, strictClient}
		marker := markers[1]
		if t.client {
			marker = markers[0]
		}
		t.strict = slices.Contains(theirs.kex, marker)
		t.extInfo = slices.Contains(theirs.kex, extInfoClient)
		if t.strict && t.in.seq != 1 {
			return broken("KEXINIT was not the first message of strict key exchange")
		}
	}
	t.startKex()
	x := t.exchange
	x.theirs, x.agreed = bytes.Clone(p), a
	x.skip = theirs.guessed && a.wrongGuess
	x.method = newKexMethod(a.kex)
	if !t.client {
		return nil
	}
	if x.public, err = x.method.public(); err != nil {
		return err
	}
	t.end(appendString(t.begin(msgKexFirst), x.public))
	return nil
}

func (t *transport) agree(mine, theirs *kexInit) (*agreed, error) {
	if t.client {
		return agree(mine, theirs, theirs)
	}
	return agree(theirs, mine, theirs)
}

// answerKex is the server's part.
func (t *transport) answerKex(p []byte) error {
	r := reader{b: p[1:]}
	x := t.exchange
	x.public = bytes.Clone(r.bytes())
	if !r.end() {
		return broken("its public value is malformed")
	}
	mine, secret, err := x.method.answer(x.public)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(t.signers, func(s ssh.Signer) bool { return slices.Contains(signersAlgorithms(s), x.agreed.hostKey) })
	key := t.signers[i].PublicKey().Marshal() // it was found when the kind was agreed on
	hash := t.hash(key, mine, secret)
	signature, err := sign(t.signers[i], hash, x.agreed.hostKey)
	if err != nil {
		return err
	}
	b := appendString(t.begin(msgKexReply), key)
	b = appendString(b, mine)
	t.end(appendString(b, ssh.Marshal(signature)))
	return t.newKeys(secret, hash)
}

// finishKex is what a client does with the server's part.
func (t *transport) finishKex(p []byte) error {
	r := reader{b: p[1:]}
	blob, theirs, signature := r.bytes(), r.bytes(), r.bytes()
	if !r.end() {
		return broken("its part of the key exchange is malformed")
	}
	x := t.exchange
	secret, err := x.method.finish(theirs)
	if err != nil {
		return err
	}
	hash := t.hash(blob, theirs, secret)
	key, err := verifyHostKey(blob, signature, hash, x.agreed.hostKey)
	if err != nil {
		return err
	}
	switch {
	case t.theirKey == nil:
		if err := t.checkKey(key); err != nil {
			return err
		}
		t.theirKey = bytes.Clone(blob)
		t.hostKeys = []string{x.agreed.hostKey} // and no other from now on
	case !bytes.Equal(t.theirKey, blob):
		return broken("it has another host key than before")
	}
	return t.newKeys(secret, hash)
}

// hash is the exchange hash H (RFC 5656, section 4).
func (t *transport) hash(hostKey, serversValue, secret []byte) []byte {
	x := t.exchange
	inits := [2][]byte{x.theirs, x.mine}
	if t.client {
		inits = [2][]byte{x.mine, x.theirs}
	}
	var b []byte
	for _, part := range [][]byte{t.versions[0], t.versions[1], inits[0], inits[1], hostKey, x.public, serversValue} {
		b = appendString(b, part)
	}
	h := sha256.Sum256(append(b, secret...))
	return h[:]
}

// newKeys begins with the new keys for what goes out, and has those for what comes in ready.
func (t *transport) newKeys(secret, hash []byte) error {
	x := t.exchange
	first := t.session == nil
	if first {
		t.session = hash
	}
	var aeads [2]cipher.AEAD
	var ivs [2][]byte
	for way, name := range x.agreed.ciphers {
		key := deriveKey(secret, hash, t.session, purposeKey[way], keySize(name))
		aead, err := newAEAD(key)
		if err != nil {
			return err
		}
		aeads[way], ivs[way] = aead, deriveKey(secret, hash, t.session, purposeIV[way], len(t.out.iv))
	}
	out, in := toClient, toServer
	if t.client {
		out, in = in, out
	}
	t.end(t.begin(msgNewKeys))
	t.out.rekey(aeads[out], ivs[out], t.strict)
	x.next.aead, x.next.iv = aeads[in], ivs[in]
	x.sentKeys = true
	if first && t.extInfo && !t.client {
		t.sendExtInfo()
	}
	t.release()
	return nil
}
