package wire

import (
	"fmt"
)

// Version is the one version of the protocol that there is.
const Version = 1

// ALPN is how TLS and QUIC name the protocol.
const ALPN = "fairlead/1"

// A Type says what a frame is.
type Type byte

// The types. Those from Optional on may be passed over by who does not know them.
const (
	TypeHello    Type = 0x01
	TypeRefuse   Type = 0x02
	TypeReady    Type = 0x03
	TypeLeave    Type = 0x04
	TypePing     Type = 0x05
	TypePong     Type = 0x06
	TypeMove     Type = 0x07
	TypeOpen     Type = 0x10
	TypeAnswer   Type = 0x11
	TypeData     Type = 0x12
	TypeFin      Type = 0x13
	TypeCredit   Type = 0x14
	TypeReset    Type = 0x15
	TypeClosed   Type = 0x16
	TypeRequest  Type = 0x20
	TypeReply    Type = 0x21
	TypeHave     Type = 0x22
	TypeDatagram Type = 0x30

	Optional        = TypeSide
	TypeSide   Type = 0x80
	TypeNoSide Type = 0x81
	TypeMoves  Type = 0x82
)

// The bounds of frames.
const (
	MaxPayload  = 64 << 10               // of REQUEST, REPLY and DATAGRAM, and of DATA
	MaxBody     = MaxPayload + maxText*2 // of any frame
	MaxHead     = 1 + 8                  // the type, and the longest varint
	MaxGreeting = 4 << 10                // of the body of HELLO and REFUSE: who says it is not known yet
	MaxDatagram = 65507                  // of UDP over IPv4: 65535 without both headers

	// DataHead is the most bytes that stand before the payload of a DATA or DATAGRAM frame.
	DataHead = 1 + 4 + maxVarintLen + maxVarintLen

	maxText = 1 << 10 // of texts and addresses
	maxName = 255     // of names, networks and programs
)

// A FrameError is that a frame makes no sense.
type FrameError struct {
	Type Type
	Err  error
}

func (e *FrameError) Error() string {
	return fmt.Sprintf("a frame of type %#02x: %v", byte(e.Type), e.Err)
}

func (e *FrameError) Unwrap() error { return e.Err }

// Head reads the beginning of a frame: its type, how long its body is, and how many bytes it took itself, which is 0 while b is too
// short to tell. The error is that the body would be longer than most.
func Head(b []byte, most int) (t Type, body, n int, err error) {
	if len(b) < 2 {
		return 0, 0, 0, nil
	}
	t = Type(b[0])
	length, n := Varint(b[1:])
	if n == 0 {
		return 0, 0, 0, nil
	}
	if length > uint64(most) {
		return t, 0, 0, &FrameError{t, fmt.Errorf("its body is longer than %d bytes", most)}
	}
	return t, int(length), 1 + n, nil
}

// appendHead writes the beginning of a frame.
func appendHead(b []byte, t Type, body int) []byte {
	return AppendVarint(append(b, byte(t)), uint64(body))
}

// begin and finish write a frame whose length is known when it is written: its body is moved if the length takes more than two bytes.
func begin(b []byte, t Type) (out []byte, at int) {
	b = append(b, byte(t), 0, 0)
	return b, len(b)
}

func finish(b []byte, at int) []byte {
	n := len(b) - at
	if n < 1<<14 {
		b[at-2], b[at-1] = byte(n>>8)|0x40, byte(n)
		return b
	}
	b = append(b, 0, 0)
	copy(b[at+2:], b[at:at+n])
	b[at-2], b[at-1], b[at], b[at+1] = byte(n>>24)|0x80, byte(n>>16), byte(n>>8), byte(n)
	return b
}

// AppendEmpty writes a frame without a body: READY, SIDE, NOSIDE, MOVES.
func AppendEmpty(b []byte, t Type) []byte { return append(b, byte(t), 0) }

// AppendNumber writes a frame whose body is one number: PING, PONG, MOVE, CLOSED, HAVE.
func AppendNumber(b []byte, t Type, v uint64) []byte {
	return AppendVarint(appendHead(b, t, VarintLen(v)), v)
}

// AppendNumbers writes a frame whose body is two numbers: FIN, RESET.
func AppendNumbers(b []byte, t Type, v, w uint64) []byte {
	return AppendVarint(AppendVarint(appendHead(b, t, VarintLen(v)+VarintLen(w)), v), w)
}

// AppendCredit writes CREDIT.
func AppendCredit(b []byte, stream, received, limit uint64) []byte {
	b = appendHead(b, TypeCredit, VarintLen(stream)+VarintLen(received)+VarintLen(limit))
	return AppendVarint(AppendVarint(AppendVarint(b, stream), received), limit)
}

// Numbers reads a body that is as many numbers as into has.
func Numbers(body []byte, into ...*uint64) error {
	for _, v := range into {
		n := 0
		if *v, n = Varint(body); n == 0 {
			return ErrShort
		}
		body = body[n:]
	}
	if len(body) > 0 {
		return errRest
	}
	return nil
}

// PutDataHead writes the beginning of a DATA frame so that it ends where payload begins in buf, and returns where the frame begins.
// There have to be DataHead bytes.
func PutDataHead(buf []byte, payload, size int, stream, offset uint64) int {
	ids := VarintLen(stream) + VarintLen(offset)
	at := payload - ids - 1 - VarintLen(uint64(ids+size))
	b := appendHead(buf[at:at:payload], TypeData, ids+size)
	AppendVarint(AppendVarint(b, stream), offset)
	return at
}

// ParseDataHead reads the numbers before the payload of a DATA frame; n is 0 while b is too short.
func ParseDataHead(b []byte) (stream, offset uint64, n int) {
	stream, n = Varint(b)
	if n == 0 {
		return 0, 0, 0
	}
	offset, m := Varint(b[n:])
	if m == 0 {
		return 0, 0, 0
	}
	return stream, offset, n + m
}

// AppendDatagram writes DATAGRAM as a frame.
func AppendDatagram(b []byte, flow uint64, payload []byte) []byte {
	b = appendHead(b, TypeDatagram, VarintLen(flow)+len(payload))
	return append(AppendVarint(b, flow), payload...)
}

// AppendPacket writes a datagram for a transport that has them.
func AppendPacket(b []byte, flow uint64, payload []byte) []byte {
	return append(AppendVarint(b, flow), payload...)
}

// Packet reads what AppendPacket writes, and the body of DATAGRAM.
func Packet(b []byte) (flow uint64, payload []byte, err error) {
	flow, n := Varint(b)
	if n == 0 {
		return 0, nil, ErrShort
	}
	if len(b)-n > MaxDatagram {
		return 0, nil, fmt.Errorf("a datagram is longer than %d bytes", MaxDatagram)
	}
	return flow, b[n:], nil
}
