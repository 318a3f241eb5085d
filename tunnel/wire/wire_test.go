package wire_test

import (
	"bytes"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/tunnel/wire"
)

func TestVarints(t *testing.T) {
	// The examples of RFC 9000, appendix A.1.
	for _, c := range []struct {
		bytes string
		v     uint64
	}{
		{"\xc2\x19\x7c\x5e\xff\x14\xe8\x8c", 151288809941952652},
		{"\x9d\x7f\x3e\x7d", 494878333},
		{"\x7b\xbd", 15293},
		{"\x25", 37},
		{"\x00", 0}, {"\x3f", 63}, {"\x40\x40", 64}, {"\x7f\xff", 1<<14 - 1}, {"\x80\x00\x40\x00", 1 << 14},
		{"\xff\xff\xff\xff\xff\xff\xff\xff", wire.MaxVarint},
	} {
		if got := string(wire.AppendVarint(nil, c.v)); got != c.bytes {
			t.Errorf("%d is written as %x, want %x", c.v, got, c.bytes)
		}
		if v, n := wire.Varint([]byte(c.bytes)); v != c.v || n != len(c.bytes) || n != wire.VarintLen(v) {
			t.Errorf("%x is read as %d of %d bytes", c.bytes, v, n)
		}
		if _, n := wire.Varint([]byte(c.bytes[:len(c.bytes)-1])); n != 0 {
			t.Errorf("%x is read although a byte is missing", c.bytes)
		}
	}
}

var (
	hello  = wire.Hello{Lowest: 1, Highest: 3, Session: [16]byte{1, 2, 3, 15: 9}, Flags: wire.FlagJoin, Keep: 300000, Name: "shed", Program: "fairlead 1", Secret: "s3"}
	word   = wire.Word{Code: 6, Text: "a better link came"}
	open   = wire.Open{Stream: 7, Window: 65536, Kind: 1, Network: "tcp", Address: "db.internal:5432", Listener: 1 << 20, Client: netip.MustParseAddrPort("192.0.2.1:1234"), Local: netip.MustParseAddrPort("[2001:db8::1]:80"), Agent: "barn"}
	answer = wire.Answer{Stream: 7, Code: 8, Window: 1, Text: "connection refused", Address: "10.0.0.1:55555"}
	ask    = wire.Request{Number: 3, Name: "listen", Payload: []byte("{}")}
	reply  = wire.Reply{Number: 3, Code: 9, Text: "taken", Payload: bytes.Repeat([]byte{7}, 20000)}
)

func body(t *testing.T, frame []byte, want wire.Type) []byte {
	t.Helper()
	typ, size, n, err := wire.Head(frame, wire.MaxBody)
	if err != nil || n == 0 || typ != want || n+size != len(frame) {
		t.Fatalf("the head of %x: type %#x, %d + %d of %d bytes, %v", frame[:min(len(frame), 16)], typ, n, size, len(frame), err)
	}
	return frame[n:]
}

func TestMessagesComeBackAsTheyWent(t *testing.T) {
	same := func(got any, err error, want any) {
		t.Helper()
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%+v came back as %+v, %v", want, got, err)
		}
	}
	h, err := wire.ParseHello(body(t, hello.Append(nil), wire.TypeHello))
	same(h, err, hello)
	h, err = wire.ParseHello(append(body(t, hello.Append(nil), wire.TypeHello), "of a later version"...))
	same(h, err, hello)
	w, err := wire.ParseWord(wire.TypeLeave, body(t, word.Append(nil, wire.TypeLeave), wire.TypeLeave))
	same(w, err, word)
	o, err := wire.ParseOpen(body(t, open.Append(nil), wire.TypeOpen))
	same(o, err, open)
	a, err := wire.ParseAnswer(body(t, answer.Append(nil), wire.TypeAnswer))
	same(a, err, answer)
	q, err := wire.ParseRequest(body(t, ask.Append(nil), wire.TypeRequest))
	same(q, err, ask)
	p, err := wire.ParseReply(body(t, reply.Append(nil), wire.TypeReply))
	same(p, err, reply)
	var v, x, y uint64
	same(v, wire.Numbers(body(t, wire.AppendNumber(nil, wire.TypePing, 0), wire.TypePing), &v), uint64(0))
	err = wire.Numbers(body(t, wire.AppendCredit(nil, 5, 1<<40, 1<<41), wire.TypeCredit), &v, &x, &y)
	same([]uint64{v, x, y}, err, []uint64{5, 1 << 40, 1 << 41})
	err = wire.Numbers(body(t, wire.AppendNumbers(nil, wire.TypeFin, 5, 77777), wire.TypeFin), &v, &x)
	same([]uint64{v, x}, err, []uint64{5, 77777})
	flow, payload, err := wire.Packet(body(t, wire.AppendDatagram(nil, 300, []byte("ping")), wire.TypeDatagram))
	same([]any{flow, string(payload)}, err, []any{uint64(300), "ping"})
}

func TestDataHeadStandsBeforeThePayload(t *testing.T) {
	for _, c := range []struct{ stream, offset, size uint64 }{{0, 0, 0}, {1, 100, 10}, {wire.MaxVarint, wire.MaxVarint, 65000}, {70000, 1 << 31, 63}} {
		buf := make([]byte, wire.DataHead+int(c.size))
		copy(buf[wire.DataHead:], bytes.Repeat([]byte("x"), int(c.size)))
		at := wire.PutDataHead(buf, wire.DataHead, int(c.size), c.stream, c.offset)
		b := body(t, buf[at:], wire.TypeData)
		stream, offset, n := wire.ParseDataHead(b)
		if stream != c.stream || offset != c.offset || len(b)-n != int(c.size) || bytes.Count(b[n:], []byte("x")) != int(c.size) {
			t.Errorf("%+v came back as stream %d, offset %d, %d bytes", c, stream, offset, len(b)-n)
		}
	}
}

func TestWhatIsTooLongIsRefusedOrCut(t *testing.T) {
	if _, _, _, err := wire.Head([]byte{byte(wire.TypeData), 0x80, 0x10, 0, 0}, 4096); err == nil {
		t.Error("a body of a megabyte is taken")
	}
	long := wire.Word{Code: 1, Text: strings.Repeat("ä", 1000)}
	w, err := wire.ParseWord(wire.TypeLeave, body(t, long.Append(nil, wire.TypeLeave), wire.TypeLeave))
	if err != nil || w.Text != strings.Repeat("ä", 512) {
		t.Errorf("a long text came back as %d bytes, %v", len(w.Text), err)
	}
	if (&wire.Open{Address: strings.Repeat("x", 2000)}).Fits() == nil {
		t.Error("an address that would be cut is taken")
	}
	bad := wire.Word{Text: "a\xffb"}
	if w, err := wire.ParseWord(wire.TypeRefuse, body(t, bad.Append(nil, wire.TypeRefuse), wire.TypeRefuse)); err != nil || w.Text != "ab" {
		t.Errorf("%q, %v", w.Text, err)
	}
	var frameError *wire.FrameError
	if _, err := wire.ParseOpen(nil); !errors.As(err, &frameError) || !errors.Is(err, wire.ErrShort) {
		t.Errorf("an empty OPEN: %v", err)
	}
}

// FuzzFrames: whatever comes, parsing it neither panics nor allocates what was not bounded; what was understood is written again as
// something that means the same.
func FuzzFrames(f *testing.F) {
	f.Add(hello.Append(nil))
	f.Add(word.Append(nil, wire.TypeRefuse))
	f.Add(open.Append(nil))
	f.Add(answer.Append(nil))
	f.Add(ask.Append(nil))
	f.Add(reply.Append(nil))
	f.Add(wire.AppendCredit(nil, 5, 1<<40, 1<<41))
	f.Add(wire.AppendNumbers(nil, wire.TypeReset, 5, 7))
	f.Add(wire.AppendDatagram(nil, 300, []byte("ping")))
	f.Add(wire.AppendEmpty(nil, wire.TypeNoSide))
	f.Fuzz(func(t *testing.T, b []byte) {
		typ, size, n, err := wire.Head(b, wire.MaxBody)
		if err != nil || n == 0 || n+size > len(b) {
			return
		}
		b = b[n : n+size]
		again := func(v any, err error, frame func() []byte, parse func([]byte) (any, error)) {
			if err != nil {
				return
			}
			out := frame()
			_, _, n, err := wire.Head(out, wire.MaxBody)
			if err != nil || n == 0 {
				t.Fatalf("%+v is written with a bad head: %v", v, err)
			}
			if w, err := parse(out[n:]); err != nil || !reflect.DeepEqual(v, w) {
				t.Fatalf("%+v came back as %+v, %v", v, w, err)
			}
		}
		switch typ {
		case wire.TypeHello:
			v, err := wire.ParseHello(b)
			again(v, err, func() []byte { return v.Append(nil) }, func(b []byte) (any, error) { return wire.ParseHello(b) })
		case wire.TypeRefuse, wire.TypeLeave:
			v, err := wire.ParseWord(typ, b)
			again(v, err, func() []byte { return v.Append(nil, typ) }, func(b []byte) (any, error) { return wire.ParseWord(typ, b) })
		case wire.TypeOpen:
			v, err := wire.ParseOpen(b)
			again(v, err, func() []byte { return v.Append(nil) }, func(b []byte) (any, error) { return wire.ParseOpen(b) })
		case wire.TypeAnswer:
			v, err := wire.ParseAnswer(b)
			again(v, err, func() []byte { return v.Append(nil) }, func(b []byte) (any, error) { return wire.ParseAnswer(b) })
		case wire.TypeRequest:
			v, err := wire.ParseRequest(b)
			again(v, err, func() []byte { return v.Append(nil) }, func(b []byte) (any, error) { return wire.ParseRequest(b) })
		case wire.TypeReply:
			v, err := wire.ParseReply(b)
			again(v, err, func() []byte { return v.Append(nil) }, func(b []byte) (any, error) { return wire.ParseReply(b) })
		case wire.TypeDatagram:
			_, _, _ = wire.Packet(b)
		case wire.TypeData:
			_, _, _ = wire.ParseDataHead(b)
		default:
			var x, y, z uint64
			_ = wire.Numbers(b, &x)
			_ = wire.Numbers(b, &x, &y)
			_ = wire.Numbers(b, &x, &y, &z)
		}
	})
}
