package forward

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// DefaultWakeTimeout is how long a sleeping target may take to come up when nothing was said.
const DefaultWakeTimeout = 60 * time.Second

// A MAC is the hardware address of a network card (EUI-48).
type MAC [6]byte

// String is m the way ParseMAC reads it, with colons and in lower case.
func (m MAC) String() string {
	return fmt.Sprintf("%02x:%02x:%02x:%02x:%02x:%02x", m[0], m[1], m[2], m[3], m[4], m[5])
}

// ParseMAC reads six bytes in hexadecimal the way programs and labels write them: aa:bb:cc:dd:ee:ff or aa-bb-cc-dd-ee-ff,
// where a byte may have one digit as arp(8) of BSD and macOS prints it, aabb.ccdd.eeff, or aabbccddeeff. They are of one
// card: not zero and no group address, which has the lowest bit of its first byte set (IEEE 802, section 8.2.2).
func ParseMAC(s string) (MAC, error) {
	m, ok := parseHex(s)
	switch {
	case !ok:
		return MAC{}, fmt.Errorf("%q is no hardware address; write it like \"aa:bb:cc:dd:ee:ff\"", s)
	case m == [6]byte{}:
		return MAC{}, fmt.Errorf("%s is no card's address; `ip neigh` shows that of the target", s)
	case m[0]&1 != 0:
		return MAC{}, fmt.Errorf("%s is the address of a group, not of one card; `ip neigh` shows that of the target", s)
	}
	return m, nil
}

// parseHex reads six bytes of hexadecimal digits in one of the forms of ParseMAC.
func parseHex(s string) (b [6]byte, ok bool) {
	separator, groups, width := "", 1, 12
	switch {
	case strings.Contains(s, ":"):
		separator, groups, width = ":", 6, 2
	case strings.Contains(s, "-"):
		separator, groups, width = "-", 6, 2
	case strings.Contains(s, "."):
		separator, groups, width = ".", 3, 4
	}
	parts := []string{s}
	if separator != "" {
		parts = strings.Split(s, separator)
	}
	if len(parts) != groups {
		return b, false
	}
	digits := ""
	for _, part := range parts {
		if width == 2 && len(part) == 1 {
			part = "0" + part
		}
		if len(part) != width {
			return b, false
		}
		digits += part
	}
	decoded, err := hex.DecodeString(digits)
	copy(b[:], decoded)
	return b, err == nil
}

// Secret is what stands for a secret wherever one would be printed.
const Secret = "***"

// A WakePassword is the SecureOn password that follows the addresses in a magic packet: none, 4 or 6 bytes. However it is
// printed, it is "***"; Reveal and Bytes alone say it.
type WakePassword struct {
	bytes [6]byte
	n     uint8
}

// ParseWakePassword reads "aa:bb:cc:dd:ee:ff" or four bytes in the form of an IPv4 address; "" is none. Errors do not
// repeat what was written.
func ParseWakePassword(s string) (p WakePassword, err error) {
	if s == "" {
		return p, nil
	}
	if b, ok := parseHex(s); ok {
		return WakePassword{b, 6}, nil
	}
	if addr, err := netip.ParseAddr(s); err == nil && addr.Is4() {
		p.n = 4
		b := addr.As4()
		copy(p.bytes[:], b[:])
		return p, nil
	}
	return p, errors.New("this is no SecureOn password: it is six bytes such as \"aa:bb:cc:dd:ee:ff\", or four such as \"192.0.2.1\"")
}

// IsZero reports whether there is no password.
func (p WakePassword) IsZero() bool { return p.n == 0 }

// Bytes is the password as it stands in a magic packet: none, 4 or 6 bytes.
func (p WakePassword) Bytes() []byte { return slices.Clone(p.bytes[:p.n]) }

// Reveal is p the way ParseWakePassword reads it.
func (p WakePassword) Reveal() string {
	switch p.n {
	case 4:
		return netip.AddrFrom4([4]byte(p.bytes[:4])).String()
	case 6:
		return MAC(p.bytes).String()
	}
	return ""
}

// String is "***", or "" for no password.
func (p WakePassword) String() string {
	if p.IsZero() {
		return ""
	}
	return Secret
}

// Format prints String, whatever the verb is: %d or %#v would print the bytes.
func (p WakePassword) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, p.String()) }

// MarshalText is String, for JSON and logs.
func (p WakePassword) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// A Wake is how targets that sleep are woken: with magic packets to these cards. The zero Wake is not at all.
type Wake struct {
	MACs     []MAC         // see Forward.WakeMACs
	Timeout  time.Duration // how long a target may take to come up; 0: DefaultWakeTimeout
	Password WakePassword
}

// IsZero reports whether nothing was said about waking.
func (w Wake) IsZero() bool { return len(w.MACs) == 0 && w.Timeout == 0 && w.Password.IsZero() }

// Equal reports whether w and v wake the same cards in the same way.
func (w Wake) Equal(v Wake) bool {
	return slices.Equal(w.MACs, v.MACs) && w.Timeout == v.Timeout && w.Password == v.Password
}

// Within is how long a target may take to come up.
func (w Wake) Within() time.Duration {
	if w.Timeout == 0 {
		return DefaultWakeTimeout
	}
	return w.Timeout
}

// WakeMACs is the cards to wake for the target at place i of To: its own where there are several targets and one address for
// each, else all of them.
func (f *Forward) WakeMACs(i int) []MAC {
	if len(f.To) > 1 && len(f.Wake.MACs) == len(f.To) {
		return f.Wake.MACs[i : i+1]
	}
	return f.Wake.MACs
}

func (f *Forward) validateWake(bad func(field, format string, args ...any)) {
	w := f.Wake
	if len(w.MACs) == 0 {
		const reason = "%s says how to wake, but wake does not say whom; write wake = \"aa:bb:cc:dd:ee:ff\""
		if w.Timeout != 0 {
			bad("wake_timeout", reason, "wake_timeout")
		}
		if !w.Password.IsZero() {
			bad("wake_password", reason, "wake_password")
		}
		return
	}
	if n := len(w.MACs); n > 1 && len(f.To) > 1 && n != len(f.To) {
		bad("wake", "wake has %d addresses and to has %d targets: give one for each in the same order, or one for all", n, len(f.To))
	}
	for _, t := range f.To {
		if t.IsUnix() || t.IsLocal() || t.Addr.IsLoopback() {
			bad("wake", "the target %s is this host, which is awake", t)
			return
		}
	}
}
