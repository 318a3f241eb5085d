package stun

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

func octets(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const head = "2112a442 b7e7a701bc34d686fa87dfae" // the cookie, and the transaction of RFC 5769

// The sample responses of RFC 5769, sections 2.2 and 2.3, with SOFTWARE, MESSAGE-INTEGRITY and FINGERPRINT.
const (
	sample4 = "0101 003c " + head + " 8022000b 7465737420766563746f7220 00200008 0001a147e112a643" +
		" 00080014 2b91f599fd9e90c38c7489f92af9ba53f06be7d7 80280004 c07d4c96"
	sample6 = "0101 0048 " + head + " 8022000b 7465737420766563746f7220 00200014 0002a1470113a9faa5d3f179bc25f4b5bed2b9d9" +
		" 00080014 a382954e4be67bf11784c97c8292c275bfe3ed41 80280004 c8fb0b4c"
)

var id = ID{0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae}

func at(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func TestMessages(t *testing.T) {
	for _, c := range []struct {
		name, wire string
		want       Message
		same       bool // it is what we would send, too
	}{
		{"request", "0001 0000 " + head, Message{ID: id}, true},
		{"indication", "0011 0000 " + head, Message{Class: Indication, ID: id}, true},
		{"other address", "0001 0008 " + head + "00030004 00000006", Message{ID: id, ChangeAddr: true, ChangePort: true}, true},
		{"other port", "0001 0008 " + head + "00030004 00000002", Message{ID: id, ChangePort: true}, true},
		{"IPv4", "0101 000c " + head + "00200008 0001a147e112a643", Message{Class: Success, ID: id, Mapped: at("192.0.2.1:32853")}, true},
		{"RFC 5780", "0101 0024 " + head + "00200008 0001a147e112a643 802b0008 00010d96c6290009 802c0008 00010d97c629000a",
			Message{Class: Success, ID: id, Mapped: at("192.0.2.1:32853"), Origin: at("198.41.0.9:3478"), Other: at("198.41.0.10:3479")}, true},
		{"RFC 3489", "0101 0024 " + head + "00010008 00018055c0000201 00040008 00010d96c6290009 00050008 00010d97c629000a",
			Message{Class: Success, ID: id, Mapped: at("192.0.2.1:32853"), Origin: at("198.41.0.9:3478"), Other: at("198.41.0.10:3479")}, false},
		{"both kinds of address", "0101 0018 " + head + "00010008 0001 0001 0a000001 00200008 0001a147e112a643",
			Message{Class: Success, ID: id, Mapped: at("192.0.2.1:32853")}, false},
		{"the first counts", "0101 0018 " + head + "00200008 0001a147e112a643 00200008 0001a147e112a644",
			Message{Class: Success, ID: id, Mapped: at("192.0.2.1:32853")}, false},
		{"failure", "0111 0008 " + head + "00090004 00000414", Message{Class: Failure, ID: id, Code: 420}, true},
		{"failure with words", "0111 0014 " + head + "00090007 00000414 6e6f7000 000a0002 00030000",
			Message{Class: Failure, ID: id, Code: 420}, false},
		{"RFC 5769, 2.2", sample4, Message{Class: Success, ID: id, Mapped: at("192.0.2.1:32853")}, false},
		{"RFC 5769, 2.3", sample6, Message{Class: Success, ID: id, Mapped: at("[2001:db8:1234:5678:11:2233:4455:6677]:32853")}, false},
	} {
		wire := octets(t, c.wire)
		got, err := Parse(wire)
		if err != nil || got != c.want {
			t.Errorf("%s: parsed %+v, %v; want %+v", c.name, got, err, c.want)
		}
		if b := Append(nil, &c.want); bytes.Equal(b, wire) != c.same {
			t.Errorf("%s: appended %x", c.name, b)
		}
	}
}

func TestNoMessages(t *testing.T) {
	for name, wire := range map[string]string{
		"nothing":                "",
		"short":                  "0001 0000 2112a442 b7e7a701bc34d686fa87df",
		"another cookie":         "0001 0000 2112a443 b7e7a701bc34d686fa87dfae",
		"another method":         "0003 0000 " + head,
		"no STUN":                "c001 0000 " + head,
		"shorter than it says":   "0001 0004 " + head,
		"longer than it says":    "0001 0000 " + head + "80220000",
		"no multiple of four":    "0001 0005 " + head + "8022000100",
		"attribute too long":     "0001 0004 " + head + "80220001",
		"no family":              "0101 000c " + head + "00200008 0003a147e112a643",
		"family and length":      "0101 000c " + head + "00200008 0002a147e112a643",
		"address too short":      "0101 0008 " + head + "00200004 0001a147",
		"change of another size": "0001 0004 " + head + "00030000",
		"no code":                "0111 0008 " + head + "00090004 00000264",
	} {
		if m, err := Parse(octets(t, wire)); err != ErrIgnore {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	if _, err := Parse(make([]byte, MaxLength+1)); err != ErrIgnore {
		t.Errorf("too long: %v", err)
	}
	m, err := Parse(octets(t, "0101 0008 "+head+"00210004 00000000"))
	var unknown *UnknownError
	if !errors.As(err, &unknown) || unknown.Attribute != 0x21 || m.ID != id || m.Class != Success {
		t.Errorf("unknown and required: %+v, %v", m, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		sample4, sample6, "0001 0008 " + head + "00030004 00000006",
		"0101 0024 " + head + "00010008 00018055c0000201 00040008 00010d96c6290009 00050008 00010d97c629000a",
		"0111 0014 " + head + "00090007 00000414 6e6f7000 000a0002 00030000",
	} {
		f.Add(octets(f, s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b)
		if err != nil {
			return
		}
		again := Append(nil, &m)
		if len(again) > MaxLength {
			t.Fatalf("a message of %d octets", len(again))
		}
		if second, err := Parse(again); err != nil || second != m {
			t.Fatalf("%+v became %+v, %v", m, second, err)
		}
	})
}
