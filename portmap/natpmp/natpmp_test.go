package natpmp

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		wire string
		want Request
		err  error
		same bool // it is what we would send, too
	}{
		{"00 00", Request{}, nil, true},
		{"00 00 0000", Request{}, nil, false},
		{"00 01 0000 1f90 2327 00001c20", Request{MapUDP, 8080, 8999, 7200}, nil, true},
		{"00 02 0000 1f90 0000 00000000", Request{MapTCP, 8080, 0, 0}, nil, true},
		{"00 02 ffff 1f90 0000 00000000 00", Request{MapTCP, 8080, 0, 0}, nil, false},
		{"", Request{}, ErrIgnore, false},
		{"00", Request{}, ErrIgnore, false},
		{"00 80 0000 00000001 cb007109", Request{}, ErrIgnore, false},
		{"00 02 0000 1f90 0000 000000", Request{Opcode: MapTCP}, ErrIgnore, false},
		{"00 03", Request{Opcode: 3}, UnsupportedOpcode, true},
		{"00 7f 0000", Request{Opcode: 127}, UnsupportedOpcode, false},
		{"01 00", Request{}, UnsupportedVersion, false},
		{"02 01 0000", Request{Opcode: MapUDP}, UnsupportedVersion, false},
	} {
		wire := octets(t, c.wire)
		got, err := ParseRequest(wire)
		if got != c.want || err != c.err {
			t.Errorf("%s: parsed %+v, %v; want %+v, %v", c.wire, got, err, c.want, c.err)
		}
		if b := AppendRequest(nil, &c.want); bytes.Equal(b, wire) != c.same {
			t.Errorf("%s: appended %x", c.wire, b)
		}
	}
}

func TestResponses(t *testing.T) {
	outside := netip.MustParseAddr("203.0.113.9")
	zero := netip.IPv4Unspecified()
	for _, c := range []struct {
		wire string
		want Response
		err  error
		same bool
	}{
		{"00 80 0000 00000100 cb007109", Response{Epoch: 256, Address: outside}, nil, true},
		{"00 80 0003 00000100 00000000", Response{Code: NetworkFailure, Epoch: 256, Address: zero}, nil, true},
		{"00 81 0000 00000100 1f90 2327 00001c20", Response{Opcode: MapUDP, Epoch: 256, Internal: 8080, External: 8999, Lifetime: 7200}, nil, true},
		{"00 82 0004 00000100 1f90 0000 00000000", Response{Opcode: MapTCP, Code: OutOfResources, Epoch: 256, Internal: 8080}, nil, true},
		{"00 85 0005 00000100", Response{Opcode: 5, Code: UnsupportedOpcode, Epoch: 256}, nil, true},
		{"00 82 0001 00000100", Response{Opcode: MapTCP, Code: UnsupportedVersion, Epoch: 256}, nil, true},
		{"00 82 0002 00000100", Response{Opcode: MapTCP, Code: NotAuthorized, Epoch: 256}, nil, false}, // shorter than ours
		{"00 80 0000 00000100", Response{Epoch: 256}, ErrIgnore, false},
		{"00 82 0000 00000100 1f90 2327", Response{Opcode: MapTCP, Epoch: 256}, ErrIgnore, false},
		{"00 80 0000 0000", Response{}, ErrIgnore, false},
		{"00 00 0000 00000100 cb007109", Response{}, ErrIgnore, false},
		{"02 80 0001 00000000 00000100 000000000000000000000000", Response{Code: UnsupportedVersion}, UnsupportedVersion, false}, // PCP's
	} {
		wire := octets(t, c.wire)
		got, err := ParseResponse(wire)
		if got != c.want || err != c.err {
			t.Errorf("%s: parsed %+v, %v; want %+v, %v", c.wire, got, err, c.want, c.err)
		}
		if b := AppendResponse(nil, &c.want); bytes.Equal(b, wire) != c.same {
			t.Errorf("%s: appended %x", c.wire, b)
		}
	}
}

func TestCodes(t *testing.T) {
	if got := NetworkFailure.Error() + Code(300).String(); got != "NAT-PMP result: network failureresult code 300" {
		t.Error(got)
	}
}

func TestEpoch(t *testing.T) {
	for _, c := range []struct {
		epoch  uint32
		passed time.Duration
		want   bool
	}{
		{1000, 0, true},
		{998, 0, true},
		{997, 0, false},
		{1000 + 3600, time.Hour, true},
		{1000 + 3148, time.Hour, true}, // 7/8, less two seconds
		{1000 + 3147, time.Hour, false},
		{0, time.Hour, false},
	} {
		if got := (Sample{c.epoch, time.Minute + c.passed}).Continues(Sample{1000, time.Minute}); got != c.want {
			t.Errorf("from 1000 to %d in %v: %v", c.epoch, c.passed, got)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	r, answer, b := Request{MapTCP, 1, 2, 3}, Response{Opcode: MapTCP, Internal: 1, External: 2, Lifetime: 3}, make([]byte, 0, MaxLength)
	if n := testing.AllocsPerRun(100, func() {
		if got, err := ParseRequest(AppendRequest(b, &r)); err != nil || got != r {
			t.Fatal(got, err)
		}
		if got, err := ParseResponse(AppendResponse(b, &answer)); err != nil || got != answer {
			t.Fatal(got, err)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{"00 00", "00 01 0000 1f90 2327 00001c20", "02 01"} {
		f.Add(octets(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			return
		}
		again := AppendRequest(nil, &r)
		if len(again) > len(b) {
			t.Fatalf("%d octets became %d", len(b), len(again))
		}
		if second, err := ParseRequest(again); err != nil || second != r {
			t.Fatalf("%+v became %+v, %v", r, second, err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{"00 80 0000 00000100 cb007109", "00 81 0000 00000100 1f90 2327 00001c20", "00 85 0005 00000100"} {
		f.Add(octets(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseResponse(b)
		if err != nil {
			return
		}
		again := AppendResponse(nil, &r)
		if len(again) > MaxLength {
			t.Fatalf("a response of %d octets", len(again))
		}
		// An error may have come without the rest, which is then zero.
		second, err := ParseResponse(again)
		if err != nil || second.Code != r.Code || second.External != r.External || second.Epoch != r.Epoch {
			t.Fatalf("%+v became %+v, %v", r, second, err)
		}
	})
}
