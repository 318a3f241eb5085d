package sshwire

import (
	"bytes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/sys/unix"
)

// openly is a cipher that does nothing, so that a fuzzer can say something that is understood.
type openly struct{}

func (openly) NonceSize() int { return 12 }
func (openly) Overhead() int  { return tagSize }
func (openly) Seal(dst, _, plain, _ []byte) []byte {
	return append(append(dst, plain...), make([]byte, tagSize)...)
}

func (openly) Open(dst, _, sealed, _ []byte) ([]byte, error) {
	if len(sealed) < tagSize {
		return nil, errTag
	}
	return append(dst, sealed[:len(sealed)-tagSize]...), nil
}

var _ cipher.AEAD = openly{}

// messages makes packets of a fuzzer's input: two bytes of length and a message each.
func messages(b []byte) []byte {
	d := direction{aead: openly{}}
	n := newNoise()
	var out []byte
	for len(b) > 2 {
		size := min(int(binary.BigEndian.Uint16(b)), len(b)-2)
		at := len(out)
		out = append(out, make([]byte, packetHead)...)
		if size > 0 {
			out = d.seal(append(out, b[2:2+size]...), at, n)
		} else {
			out = d.seal(append(out, 0), at, n)
		}
		b = b[2+size:]
	}
	return out
}

// framed is the other way round, for seeds.
func framed(list ...[]byte) []byte {
	var b []byte
	for _, m := range list {
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(m))), m...)
	}
	return b
}

func message(number byte, parts ...any) []byte {
	b := []byte{number}
	for _, p := range parts {
		switch p := p.(type) {
		case int:
			b = appendU32(b, uint32(p))
		case string:
			b = appendString(b, p)
		case []byte:
			b = appendString(b, p)
		case bool:
			b = appendBool(b, p)
		}
	}
	return b
}

func FuzzPacket(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x0c\x0a\x15012345678901234567890123456789"))
	f.Add(messages(framed([]byte{2}, bytes.Repeat([]byte{94}, 300))))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, aead := range []cipher.AEAD{nil, openly{}} {
			d := direction{aead: aead}
			for rest := slices.Clone(b); ; {
				p, size, err := d.open(rest)
				if err != nil || size == 0 {
					break
				}
				if len(p) == 0 || size > len(rest) {
					t.Fatalf("payload of %d bytes, size %d of %d", len(p), size, len(rest))
				}
				rest = rest[size:]
			}
		}
	})
}

func FuzzKexInit(f *testing.F) {
	a := Algorithms{}.complete()
	t := &transport{wanted: a, hostKeys: defaultHostKeys(), client: true}
	f.Add(t.proposal().marshal())
	f.Add([]byte{msgKexInit})
	f.Fuzz(func(_ *testing.T, b []byte) {
		k, err := parseKexInit(b)
		if err == nil {
			_, _ = agree(k, t.proposal(), k)
			_, _ = agree(t.proposal(), k, k)
		}
	})
}

// A said is a connection on which the fuzzer's words come in.
type said struct{ io.Reader }

func (said) Write(p []byte) (int, error)      { return len(p), nil }
func (said) Close() error                     { return nil }
func (said) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (said) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (said) SetDeadline(time.Time) error      { return nil }
func (said) SetReadDeadline(time.Time) error  { return nil }
func (said) SetWriteDeadline(time.Time) error { return nil }

// FuzzKex plays the whole beginning, without keys, at either end.
func FuzzKex(f *testing.F) {
	host := newTestKey(f)
	init := (&transport{wanted: Algorithms{}.complete(), hostKeys: []string{ssh.KeyAlgoED25519}, client: true}).proposal().marshal()
	open := func(list ...[]byte) []byte {
		out := []byte("SSH-2.0-x\r\n")
		d := direction{}
		for _, m := range list {
			at := len(out)
			out = d.seal(append(append(out, 0, 0, 0, 0, 0), m...), at, newNoise())
		}
		return out
	}
	f.Add(open(init, message(msgKexFirst, make([]byte, 32))))
	f.Add(open(init, message(msgKexFirst, make([]byte, 1184+32))))
	f.Add(open(init, message(msgKexReply, host.PublicKey().Marshal(), make([]byte, 32), "sig")))
	f.Add([]byte("hello\r\nSSH-1.5-old\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, client := range []bool{true, false} {
			h := newHandshake(said{bytes.NewReader(b)}, Algorithms{}, client)
			h.hostKeys, h.signers, h.offered = []string{ssh.KeyAlgoED25519}, []ssh.Signer{host}, defaultPublicKeys()
			h.checkKey = func(ssh.PublicKey) error { return nil }
			var err error
			if client {
				_, err = h.asClient(&ClientConfig{Signers: []ssh.Signer{host}})
			} else {
				_, _, err = h.asServer(serverConfig(host))
			}
			if err == nil {
				t.Fatal("somebody logged in with nothing")
			}
		}
	})
}

// FuzzAuth plays the login at either end, with keys that hide nothing.
func FuzzAuth(f *testing.F) {
	host := newTestKey(f)
	blob := host.PublicKey().Marshal()
	f.Add(framed(message(msgServiceRequest, serviceAuth), message(msgAuthRequest, "me", serviceConnection, methodPublicKey, false, ssh.KeyAlgoED25519, blob)))
	f.Add(framed(message(msgServiceRequest, serviceAuth),
		message(msgAuthRequest, "me", serviceConnection, methodPublicKey, true, ssh.KeyAlgoED25519, blob, message(0, "x"))))
	f.Add(framed(message(msgServiceAccept, serviceAuth), message(msgAuthBanner, "hi", ""), message(msgAuthKeyOK, ssh.KeyAlgoED25519, blob),
		message(msgAuthFailure, "publickey,password", true)))
	f.Add(framed(message(msgExtInfo, 1, "server-sig-algs", "ssh-ed25519"), message(msgServiceAccept, serviceAuth), []byte{msgAuthSuccess}))
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, client := range []bool{true, false} {
			h := newHandshake(said{bytes.NewReader(messages(b))}, Algorithms{}, client)
			h.hostKeys, h.signers, h.offered = []string{ssh.KeyAlgoED25519}, []ssh.Signer{host}, defaultPublicKeys()
			h.versions = [2][]byte{[]byte("SSH-2.0-x"), []byte("SSH-2.0-x")}
			h.transport.in.aead, h.transport.out.aead, h.session = openly{}, openly{}, make([]byte, 32)
			if client {
				_ = h.authenticate(&ClientConfig{Signers: []ssh.Signer{host, host}})
			} else if _, _, err := h.admit(serverConfig(host)); err == nil {
				t.Fatal("somebody logged in without a signature")
			}
		}
	})
}

// FuzzChannels plays a connection after the login, at either end, with channels of every kind.
func FuzzChannels(f *testing.F) {
	confirm := func(id int) []byte { return message(msgChannelConfirm, id, 7, 1<<20, 1<<15) }
	f.Add(framed(confirm(0), confirm(1), message(msgChannelData, 0, "data"), message(msgChannelData, 1, "more"), message(msgChannelEOF, 0),
		message(msgChannelClose, 0), message(msgChannelClose, 1)))
	f.Add(framed(message(msgChannelOpen, "a", 3, 100, 10), message(msgChannelOpen, "b", 4, 0, 1), message(msgChannelOpen, "c", 5, 1<<20, 1<<15),
		message(msgChannelData, 2, "x"), message(msgChannelWindow, 2, 1<<30), message(msgChannelRequest, 2, "exec", true, "ls")))
	f.Add(framed(message(msgGlobalRequest, "x", true), message(msgGlobalSuccess), message(msgPing, "p"), []byte{250}, message(msgDisconnect, 2, "x", "")))
	f.Add(framed(message(msgChannelRefused, 0, 1, "no", ""), message(msgChannelStderr, 1, 1, "err"), message(msgChannelFailure, 1), message(msgChannelSuccess, 2)))
	f.Add(framed((&transport{wanted: Algorithms{}.complete(), hostKeys: []string{ssh.KeyAlgoED25519}}).proposal().marshal(),
		message(msgKexFirst, make([]byte, 32)), []byte{msgNewKeys}))
	host := newTestKey(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, client := range []bool{true, false} {
			playChannels(t, host, client, messages(b))
		}
	})
}

// openConn is a connection that hides nothing, and the other end of its wire. Nobody runs it.
func openConn(t testing.TB, host ssh.Signer, client bool) (c *Conn, far int) {
	t.Helper()
	wire := socketPair(t)
	l, err := NewLoop()
	if err != nil {
		t.Fatal(err)
	}
	l.in = make([]byte, inSize)
	tr := &transport{
		client: client, wanted: Algorithms{}.complete(), noise: newNoise(), hostKeys: []string{ssh.KeyAlgoED25519}, session: make([]byte, 32),
		signers: []ssh.Signer{host}, checkKey: func(ssh.PublicKey) error { return nil },
	}
	tr.in.aead, tr.out.aead = openly{}, openly{}
	c, err = newConn(ready{transport: tr, loop: l, login: &Login{versions: [2][]byte{[]byte(DefaultVersion), []byte(DefaultVersion)}}})
	if err != nil {
		t.Fatal(err)
	}
	c.fd, c.running = int32(wire[0]), true
	return c, wire[1]
}

func playChannels(t *testing.T, host ssh.Signer, client bool, packets []byte) {
	c, wire := openConn(t, host, client)
	l := c.loop
	defer unix.Close(wire)
	var far []int
	carry := func() int {
		pair := socketPair(t)
		far = append(far, pair[1])
		_, _ = unix.Write(pair[1], make([]byte, 5000))
		return pair[0]
	}
	kinds := 0
	c.o = Options{
		Channel: func(in *Incoming) {
			switch kinds++; in.Type {
			case "a":
				_, _ = in.Accept(func(r *Request) { r.Reply(true, nil) })
			case "b":
				in.Reject(Prohibited, "no")
			default:
				if kinds < 10 {
					in.AcceptCarry(carry(), CarryOptions{})
				}
			}
		},
		Request: func(r *Request) { r.Reply(true, []byte("x")) },
	}.complete()
	c.start()
	c.OpenChannelCarry("x", nil, carry(), CarryOptions{})
	if ch := c.openNow("y", nil, &opening{opened: func() {}, failed: func(error) {}}); ch != nil {
		ch.streaming()
	}
	serve := func() {
		for range 3 {
			n := sysPoll(l.epoll, l.events[:])
			for _, ev := range l.events[:n] {
				if s := &l.slots[ev.Fd]; s.handler != nil && s.generation == ev.Pad {
					s.handler.ready(ev.Events)
				}
			}
			l.readMail()
			l.goOn()
		}
	}
	serve()
	for len(packets) > 0 && !c.ended { // in pieces, so that packets are cut
		n := min(len(packets), 1500)
		piece := append(slices.Clone(c.rest), packets[:n]...)
		if err := c.packets(piece); err != nil {
			c.fail(err)
		}
		packets = packets[n:]
		serve()
		_, _ = unix.Read(wire, make([]byte, 1<<20))
	}
	for _, fd := range far {
		unix.Close(fd)
	}
	serve()
	c.die(errors.New("the end"))
	l.serve(func() bool { return true })
	if len(c.lingering) > 0 {
		t.Fatal("something lingers")
	}
}
