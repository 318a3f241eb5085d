package sshwire

import (
	"encoding/binary"
	"strings"
)

// Message numbers: RFC 4250, section 4.1.2; RFC 8308, section 2.3 (EXT_INFO); OpenSSH's PROTOCOL, section 1.9 (PING, PONG).
const (
	msgDisconnect     = 1
	msgIgnore         = 2
	msgUnimplemented  = 3
	msgDebug          = 4
	msgServiceRequest = 5
	msgServiceAccept  = 6
	msgExtInfo        = 7

	msgKexInit  = 20
	msgNewKeys  = 21
	msgKexFirst = 30 // of the client's; the numbers from 30 to 49 belong to the method
	msgKexReply = 31

	msgAuthRequest = 50
	msgAuthFailure = 51
	msgAuthSuccess = 52
	msgAuthBanner  = 53
	msgAuthKeyOK   = 60

	msgGlobalRequest = 80
	msgGlobalSuccess = 81
	msgGlobalFailure = 82

	msgChannelOpen    = 90
	msgChannelConfirm = 91
	msgChannelRefused = 92
	msgChannelWindow  = 93
	msgChannelData    = 94
	msgChannelStderr  = 95 // extended data
	msgChannelEOF     = 96
	msgChannelClose   = 97
	msgChannelRequest = 98
	msgChannelSuccess = 99
	msgChannelFailure = 100

	stderrKind = 1 // of extended data (RFC 4254, section 5.2)

	msgPing = 192
	msgPong = 193
)

// A reader takes a message apart (RFC 4251, section 5). After anything that is not there it is bad, and all it gives is empty.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.b, r.bad = nil, true
		return nil
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b
}

func (r *reader) byte() byte {
	if b := r.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (r *reader) bool() bool { return r.byte() != 0 }

func (r *reader) u32() uint32 {
	if b := r.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (r *reader) bytes() []byte {
	n := r.u32()
	if uint64(n) > uint64(len(r.b)) {
		r.b, r.bad = nil, true
		return nil
	}
	return r.take(int(n))
}

func (r *reader) string() string { return string(r.bytes()) }

func (r *reader) names() []string {
	if s := r.string(); s != "" {
		return strings.Split(s, ",")
	}
	return nil
}

// end reports whether all was there and nothing else.
func (r *reader) end() bool { return !r.bad && len(r.b) == 0 }

func appendU32(b []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(b, v) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

func appendString[T string | []byte](b []byte, s T) []byte {
	return append(appendU32(b, uint32(len(s))), s...)
}

func appendNames(b []byte, names []string) []byte { return appendString(b, strings.Join(names, ",")) }

// appendMPInt adds a big-endian number that is not negative.
func appendMPInt(b, number []byte) []byte {
	for len(number) > 0 && number[0] == 0 {
		number = number[1:]
	}
	if len(number) > 0 && number[0] >= 0x80 {
		b = append(appendU32(b, uint32(len(number)+1)), 0)
		return append(b, number...)
	}
	return appendString(b, number)
}
