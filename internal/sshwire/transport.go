package sshwire

import (
	"bytes"

	"golang.org/x/crypto/ssh"
)

// A transport is RFC 4253 without any input or output: it takes messages that have arrived apart from the others, and leaves
// the packets that are to go out in out. Whoever has it reads and writes.
type transport struct {
	client      bool
	in, out     direction
	outgoing    []byte   // sealed
	buffers     *buffers // where outgoing comes from; nil: from anywhere
	held        []byte   // what has to wait for the end of a key exchange, as in outgoing but not sealed
	holding     bool     // the message that is being made goes to held
	at          int      // where it begins
	noise       *noise
	wanted      Algorithms
	hostKeys    []string // kinds that a client takes
	signers     []ssh.Signer
	checkKey    func(ssh.PublicKey) error // of a client, for the first exchange
	theirKey    []byte                    // the host's, which stays the same
	versions    [2][]byte                 // the client's and the server's
	session     []byte                    // identifier; nil until the first exchange
	strict      bool
	extInfo     bool // the client wants EXT_INFO
	theirs      extInfo
	exchange    *exchange
	offered     []string // algorithms by which clients may sign, for EXT_INFO
	disconnects bool     // DISCONNECT was sent: nothing may follow
}

// extInfo is what EXT_INFO said (RFC 8308, section 3; OpenSSH's PROTOCOL, section 1.9).
type extInfo struct {
	signatures []string // server-sig-algs; nil: nothing was said
	ping       bool
}

// begin starts a message; what it returns is to be appended to and given to end. It is held back while an exchange of keys
// is under way (RFC 4253, section 7.1), unless it belongs to that.
func (t *transport) begin(message byte) []byte {
	t.holding = message >= msgAuthRequest && t.exchange.blocks() || message == msgServiceRequest && t.exchange.blocks()
	b := t.outgoing
	switch {
	case t.holding:
		b = t.held
	case b == nil && t.buffers != nil:
		b = t.buffers.take()
	}
	t.at = len(b)
	return append(b, 0, 0, 0, 0, 0, message)
}

func (t *transport) end(b []byte) {
	if t.holding {
		n := len(b) - t.at - packetHead
		b[t.at], b[t.at+1], b[t.at+2], b[t.at+3] = byte(n>>24), byte(n>>16), byte(n>>8), byte(n)
		t.held = b
		return
	}
	t.outgoing = t.out.seal(b, t.at, t.noise)
}

// send sends a message that is there as a whole.
func (t *transport) send(payload []byte) { t.end(append(t.begin(payload[0]), payload[1:]...)) }

// release sends what was held back.
func (t *transport) release() {
	held := t.held
	t.held = nil
	for r := (reader{b: held}); len(r.b) > 0; {
		n := int(r.u32())
		r.byte()
		t.send(r.take(n))
	}
}

// receive takes a message that is of the transport's business, and reports whether it was.
func (t *transport) receive(p []byte) (bool, error) {
	message := p[0]
	encrypted := t.in.aead != nil
	if !encrypted && t.strict && (message < msgKexInit || message > 49) && message != msgDisconnect {
		return true, broken("message %d during strict key exchange", message)
	}
	switch {
	case message == msgDisconnect:
		r := reader{b: p[1:]}
		return true, &DisconnectError{r.u32(), r.string()}
	case message == msgIgnore || message == msgDebug || message == msgUnimplemented:
		return true, nil
	case message == msgExtInfo && encrypted:
		return true, t.receiveExtInfo(p[1:])
	case message >= msgKexInit && message <= 49:
		return true, t.receiveKex(p)
	case !encrypted:
		return true, broken("message %d before there are keys", message)
	}
	// After its KEXINIT a peer should send nothing else until its NEWKEYS (RFC 4253, section 7.1). Some do, and it does no harm.
	return false, nil
}

// unimplemented answers a message that nobody knows (RFC 4253, section 11.4). It has just been received.
func (t *transport) unimplemented() { t.end(appendU32(t.begin(msgUnimplemented), t.in.seq-1)) }

// disconnect tells the peer that this is the end, and why (RFC 4253, section 11.1).
func (t *transport) disconnect(reason uint32, text string) {
	if t.disconnects {
		return
	}
	t.disconnects = true
	b := appendU32(t.begin(msgDisconnect), reason)
	t.end(appendString(appendString(b, text), ""))
}

// Reasons of DISCONNECT.
const (
	reasonProtocol      = 2
	reasonNoService     = 7
	reasonByApplication = 11
	reasonNoMoreMethods = 14
)

func (t *transport) receiveExtInfo(b []byte) error {
	r := reader{b: b}
	for n := r.u32(); n > 0 && !r.bad; n-- {
		switch name := r.string(); name {
		case "server-sig-algs":
			t.theirs.signatures = append([]string{}, r.names()...)
		case "ping@openssh.com":
			t.theirs.ping = bytes.Equal(r.bytes(), []byte("0"))
		default:
			r.bytes()
		}
	}
	if r.bad {
		return broken("its EXT_INFO is cut short")
	}
	return nil
}

// sendExtInfo tells a client by which algorithms it may sign.
func (t *transport) sendExtInfo() {
	b := appendU32(t.begin(msgExtInfo), 2)
	b = appendNames(appendString(b, "server-sig-algs"), t.offered)
	t.end(appendString(appendString(b, "ping@openssh.com"), "0"))
}
