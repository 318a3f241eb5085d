package pcp

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

// octets reads hexadecimal with blanks in it.
func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	client4  = "00000000000000000000ffffc0a8010a" // 192.168.1.10
	nonceHex = "0102030405060708090a0b0c"
	anyV4    = "00000000000000000000ffff00000000"
	outside  = "00000000000000000000ffffcb007109" // 203.0.113.9
	mapHead  = "02 01 0000 00000e10" + client4
	mapBody  = nonceHex + "06 000000 1f90 2327" + anyV4
	peerHead = "02 02 0000 00000e10" + client4
	peerBody = nonceHex + "11 000000 1f90 0000" + anyV4 + "01bb 0000" + "00000000000000000000ffffc6336407"
)

var nonce = [12]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}

func mapping(external string) Mapping {
	return Mapping{Nonce: nonce, Protocol: ProtocolTCP, Internal: 8080, External: netip.MustParseAddrPort(external)}
}

func TestRequests(t *testing.T) {
	v4 := netip.MustParseAddr("192.168.1.10")
	v6 := netip.MustParseAddr("2001:db8::5")
	for _, c := range []struct {
		name, wire string
		want       Request
	}{
		{"announce", "02 00 0000 00000000" + client4, Request{Client: v4}},
		{"map", mapHead + mapBody, Request{Opcode: Map, Lifetime: 3600, Client: v4, Mapping: mapping("0.0.0.0:8999")}},
		{"map of IPv6", "02 01 0000 00000078 20010db8000000000000000000000005" + nonceHex + "06 000000 1f90 1f90 00000000000000000000000000000000",
			Request{Opcode: Map, Lifetime: 120, Client: v6, Mapping: mapping("[::]:8080")}},
		{"peer", peerHead + peerBody, Request{Opcode: Peer, Lifetime: 3600, Client: v4, Remote: netip.MustParseAddrPort("198.51.100.7:443"),
			Mapping: Mapping{Nonce: nonce, Protocol: ProtocolUDP, Internal: 8080, External: netip.MustParseAddrPort("0.0.0.0:0")}}},
		{"every option", mapHead + mapBody + "01000010 00000000000000000000ffffc0a8010b" + "02000000" + "03000014 00 00 0000 00000000000000000000000000000000" +
			"03000014 00 78 0050 00000000000000000000ffffc6336400" + "03000014 00 20 0000 20010db8000000000000000000000000",
			Request{Opcode: Map, Lifetime: 3600, Client: v4, Mapping: mapping("0.0.0.0:8999"), Options: Options{
				ThirdParty: netip.MustParseAddr("192.168.1.11"), PreferFailure: true,
				Filters: []Filter{{}, {netip.MustParsePrefix("198.51.100.0/24"), 80}, {netip.MustParsePrefix("2001:db8::/32"), 0}},
			}}},
	} {
		wire := octets(t, c.wire)
		got, err := ParseRequest(wire)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: parsed %+v, %v; want %+v", c.name, got, err, c.want)
		}
		if b := AppendRequest(nil, &c.want); !bytes.Equal(b, wire) {
			t.Errorf("%s: appended\n%x, want\n%x", c.name, b, wire)
		}
	}
}

func TestOptionalOptionsAreSkipped(t *testing.T) {
	wire := octets(t, mapHead+mapBody+"80000005 0102030405 000000"+"ff000000"+"02000000")
	if r, err := ParseRequest(wire); err != nil || !r.PreferFailure {
		t.Errorf("parsed %+v, %v", r, err)
	}
}

func TestRefusedRequests(t *testing.T) {
	long := strings.Repeat("80000000", (MaxLength-60)/4)
	for _, c := range []struct {
		name, wire string
		want       error
	}{
		{"nothing", "", ErrIgnore},
		{"one octet", "02", ErrIgnore},
		{"a response", "02 81" + strings.Repeat("00", 58), ErrIgnore},
		{"a response of another version", "03 80 0000", ErrIgnore},
		{"version 1", "01 01" + strings.Repeat("00", 42), UnsuppVersion},
		{"version 3, short", "03 01", UnsuppVersion},
		{"no header", "02 01 0000 00000000", MalformedRequest},
		{"not a multiple of four", mapHead + mapBody + "00", MalformedRequest},
		{"the longest", mapHead + mapBody + long, nil},
		{"too long", mapHead + mapBody + long + "80000000", MalformedRequest},
		{"too short for MAP", mapHead + mapBody[:20], MalformedRequest},
		{"too short for PEER", peerHead + mapBody, MalformedRequest},
		{"opcode 3", "02 03 0000 00000000" + client4, UnsuppOpcode},
		{"opcode 127", "02 7f 0000 00000000" + client4, UnsuppOpcode},
		{"a mandatory option", mapHead + mapBody + "7f000000", UnsuppOption},
		{"option 0", mapHead + mapBody + "00000000", UnsuppOption},
		{"a mandatory option of ANNOUNCE", "02 00 0000 00000000" + client4 + "02000000", UnsuppOption},
		{"PREFER_FAILURE in PEER", peerHead + peerBody + "02000000", UnsuppOption},
		{"an option beyond the end", mapHead + mapBody + "01000010 00000000", MalformedOption},
		{"an optional one beyond the end", mapHead + mapBody + "80ffff00", MalformedOption},
		{"THIRD_PARTY too short", mapHead + mapBody + "01000004 c0a8010b", MalformedOption},
		{"THIRD_PARTY twice", mapHead + mapBody + strings.Repeat("01000010"+outside, 2), MalformedOption},
		{"PREFER_FAILURE with data", mapHead + mapBody + "02000004 00000000", MalformedOption},
		{"PREFER_FAILURE twice", mapHead + mapBody + "02000000 02000000", MalformedOption},
		{"PREFER_FAILURE of nothing", mapHead + nonceHex + "06 000000 1f90 0000" + anyV4 + "02000000", MalformedOption},
		{"FILTER of 129 bits", mapHead + mapBody + "03000014 00 81 0000 20010db8000000000000000000000000", MalformedOption},
		{"FILTER of IPv4 with 95 bits", mapHead + mapBody + "03000014 00 5f 0000" + outside, MalformedOption},
		{"FILTER too long", mapHead + mapBody + "03000018 00 60 0000" + outside + "00000000", MalformedOption},
		{"a port of all protocols", mapHead + nonceHex + "00 000000 1f90 0000" + anyV4, MalformedRequest},
		{"PEER without a peer", peerHead + nonceHex + "11 000000 1f90 0000" + anyV4 + "01bb 0000" + anyV4, MalformedRequest},
	} {
		_, err := ParseRequest(octets(t, c.wire))
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
		if e := (*Error)(nil); err != nil && err != ErrIgnore && !errors.As(err, &e) {
			t.Errorf("%s: %T is no *Error", c.name, err)
		}
	}
}

func TestResponses(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       Response
	}{
		{"announce", "02 80 0000 00000000 00000007 000000000000000000000000", Response{Epoch: 7}},
		{"map", "02 81 0000 00000e10 00000100 000000000000000000000000" + nonceHex + "06 000000 1f90 2327" + outside,
			Response{Opcode: Map, Lifetime: 3600, Epoch: 256, Mapping: mapping("203.0.113.9:8999")}},
		{"map with an option", "02 81 0000 00000e10 00000100 000000000000000000000000" + nonceHex + "06 000000 1f90 2327" + outside + "02000000",
			Response{Opcode: Map, Lifetime: 3600, Epoch: 256, Mapping: mapping("203.0.113.9:8999"), Options: Options{PreferFailure: true}}},
		{"an error", "02 81 000b 00000708 00000100 000000000000000000000000" + nonceHex + "06 000000 1f90 2327" + anyV4,
			Response{Opcode: Map, Code: CannotProvideExternal, Lifetime: 1800, Epoch: 256, Mapping: mapping("0.0.0.0:8999")}},
	} {
		wire := octets(t, c.wire)
		got, err := ParseResponse(wire)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: parsed %+v, %v; want %+v", c.name, got, err, c.want)
		}
		if b := AppendResponse(nil, &c.want); !bytes.Equal(b, wire) {
			t.Errorf("%s: appended\n%x, want\n%x", c.name, b, wire)
		}
	}
}

func TestOddResponses(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       error
		code       Code
	}{
		{"a request", mapHead + mapBody, ErrIgnore, 0},
		{"nothing", "", ErrIgnore, 0},
		{"NAT-PMP alone is spoken there", "00 81 0001 00000007", UnsuppVersion, UnsuppVersion},
		{"a later version", "03 81 0001 00000000 00000007 000000000000000000000000", UnsuppVersion, UnsuppVersion},
		{"a success without a body", "02 81 0000 00000000 00000007 000000000000000000000000", MalformedRequest, 0},
		{"an error without a body", "02 81 0003 00000000 00000007 000000000000000000000000", nil, MalformedRequest},
		{"an option that nobody knows", "02 80 0000 00000000 00000007 000000000000000000000000 7f000000", nil, 0},
		{"an option beyond the end", "02 80 0000 00000000 00000007 000000000000000000000000 7f000004", MalformedOption, 0},
	} {
		r, err := ParseResponse(octets(t, c.wire))
		if !errors.Is(err, c.want) || r.Code != c.code {
			t.Errorf("%s: code %v, %v; want %v, %v", c.name, r.Code, err, c.code, c.want)
		}
	}
}

func TestErrorsHaveWhatWasSent(t *testing.T) {
	head := func(op, code, life string) string {
		return "02" + op + "00" + code + life + "00000007 000000000000000000000000"
	}
	big := "02 01 0000" + strings.Repeat("ab", 1500)
	for _, c := range []struct {
		name, wire string
		code       Code
		want       string
	}{
		{"map", mapHead + mapBody, AddressMismatch, head("81", "0c", "00000708") + mapBody},
		{"map with options", mapHead + mapBody + "7f000000", UnsuppOption, head("81", "05", "00000708") + mapBody + "7f000000"},
		{"a short error", mapHead + mapBody, NetworkFailure, head("81", "07", "0000001e") + mapBody},
		{"a MAP that was cut off", mapHead + nonceHex, MalformedRequest, head("81", "03", "00000708") + nonceHex + strings.Repeat("00", 24)},
		{"five octets", "02 01 0000 00", MalformedRequest, head("81", "03", "00000708") + strings.Repeat("00", 36)},
		{"an odd length", mapHead + mapBody + "ff", MalformedRequest, head("81", "03", "00000708") + mapBody + "ff000000"},
		{"another version", "05 01", UnsuppVersion, head("81", "01", "00000708")},
		{"too long", big, MalformedRequest, head("81", "03", "00000708") + strings.Repeat("ab", MaxLength-24)},
	} {
		prefix := []byte("before")
		got := AppendError(prefix, octets(t, c.wire), c.code, 7)
		if want := append(prefix, octets(t, c.want)...); !bytes.Equal(got, want) {
			t.Errorf("%s:\n%x, want\n%x", c.name, got, want)
		}
	}
}

func TestCodes(t *testing.T) {
	if got := UserExQuota.Error() + Code(200).String() + Map.String() + Opcode(9).String(); got != "PCP result USER_EX_QUOTAresult code 200MAPopcode 9" {
		t.Error(got)
	}
	for c := range Code(14) {
		want := 30 * time.Minute
		if c == NetworkFailure || c == NoResources || c == UserExQuota {
			want = 30 * time.Second
		}
		if c != Success && c.Lifetime() != want {
			t.Errorf("%v lasts %v", c, c.Lifetime())
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	wire := octets(t, mapHead+mapBody+"02000000")
	r, err := ParseRequest(wire)
	if err != nil {
		t.Fatal(err)
	}
	answer := Response{Opcode: Map, Mapping: r.Mapping, Options: r.Options}
	b := make([]byte, 0, MaxLength)
	if n := testing.AllocsPerRun(100, func() {
		b = AppendRequest(b[:0], &r)
		if _, err := ParseRequest(b); err != nil {
			t.Fatal(err)
		}
		b = AppendResponse(b[:0], &answer)
		if _, err := ParseResponse(b); err != nil {
			t.Fatal(err)
		}
		b = AppendError(b[:0], wire, NoResources, 1)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEpoch(t *testing.T) {
	for _, c := range []struct {
		epoch  uint32
		passed time.Duration
		want   bool
	}{
		{1000, 0, true},
		{1100, 100 * time.Second, true},
		{999, 0, true},  // out of order by one
		{998, 0, false}, // backwards
		{3, time.Hour, false},
		{1000 + 3600, time.Hour, true},
		{1000 + 3380, time.Hour, true}, // slower by a sixteenth
		{1000 + 3300, time.Hour, false},
		{1000 + 3800, time.Hour, true},
		{1000 + 3900, time.Hour, false},
	} {
		if got := (Sample{c.epoch, time.Minute + c.passed}).Continues(Sample{1000, time.Minute}); got != c.want {
			t.Errorf("from 1000 to %d in %v: %v", c.epoch, c.passed, got)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	for _, s := range []string{mapHead + mapBody, peerHead + peerBody, mapHead + mapBody + "01000010" + outside + "02000000 03000014 0078 0050" + outside + "80000001 01000000"} {
		f.Add(octets(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		for _, code := range []Code{UnsuppVersion, MalformedRequest} {
			if n := len(AppendError(nil, b, code, 1)); n > MaxLength || n%4 != 0 || n > max(len(b)+3, headerLength+peerLength) {
				t.Fatalf("an error of %d octets for %d", n, len(b))
			}
		}
		if err != nil {
			if e := (*Error)(nil); err != ErrIgnore && (!errors.As(err, &e) || e.Code == Success) {
				t.Fatalf("%v tells no result", err)
			}
			return
		}
		again := AppendRequest(nil, &r)
		if len(again) > len(b) {
			t.Fatalf("%d octets became %d", len(b), len(again))
		}
		if second, err := ParseRequest(again); err != nil || !reflect.DeepEqual(second, r) {
			t.Fatalf("%+v became %+v, %v", r, second, err)
		}
	})
}

func FuzzParseResponse(f *testing.F) {
	for _, s := range []string{"02 80 0000 00000000 00000007 000000000000000000000000", "02 81 0000 00000e10 00000100 000000000000000000000000" + mapBody + "02000000"} {
		f.Add(octets(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseResponse(b)
		if err != nil || len(b) < headerLength+r.Opcode.body() {
			return
		}
		again := AppendResponse(nil, &r)
		if len(again) > len(b) {
			t.Fatalf("%d octets became %d", len(b), len(again))
		}
		if second, err := ParseResponse(again); err != nil || !reflect.DeepEqual(second, r) {
			t.Fatalf("%+v became %+v, %v", r, second, err)
		}
	})
}
