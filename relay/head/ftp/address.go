package ftp

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

var (
	errAddress  = errors.New("this is no address and port")
	errProtocol = errors.New("the network protocol is not known")
)

// parsePort reads the argument of PORT: h1,h2,h3,h4,p1,p2 (RFC 959, section 4.1.2).
func parsePort(s string) (netip.AddrPort, error) {
	numbers, rest, ok := six(s)
	if !ok || strings.TrimSpace(rest) != "" {
		return netip.AddrPort{}, errAddress
	}
	return of(numbers), nil
}

func of(n [6]byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(n[:4])), uint16(n[4])<<8|uint16(n[5]))
}

// six reads six numbers of a byte with commas between them from the beginning of s.
func six(s string) (numbers [6]byte, rest string, ok bool) {
	for i := range numbers {
		if i > 0 {
			if s == "" || s[0] != ',' {
				return numbers, s, false
			}
			s = s[1:]
		}
		n, digits := 0, 0
		for digits < len(s) && digits < 3 && '0' <= s[digits] && s[digits] <= '9' {
			n = n*10 + int(s[digits]-'0')
			digits++
		}
		if digits == 0 || n > 255 {
			return numbers, s, false
		}
		numbers[i], s = byte(n), s[digits:]
	}
	return numbers, s, s == "" || s[0] != ',' && (s[0] < '0' || s[0] > '9')
}

// parseExtended reads the argument of EPRT: |protocol|address|port| with any printable delimiter (RFC 2428, section 2).
func parseExtended(s string) (netip.AddrPort, error) {
	if s = strings.TrimSpace(s); len(s) < 2 || s[0] <= ' ' || s[0] > '~' {
		return netip.AddrPort{}, errAddress
	}
	words := strings.Split(s, s[:1])
	if len(words) != 5 || words[4] != "" {
		return netip.AddrPort{}, errAddress
	}
	if words[1] != "1" && words[1] != "2" {
		return netip.AddrPort{}, errProtocol
	}
	addr, err := netip.ParseAddr(words[2])
	port, ok := decimal(words[3])
	if err != nil || !ok || addr.Is4() != (words[1] == "1") {
		return netip.AddrPort{}, errAddress
	}
	return netip.AddrPortFrom(addr.Unmap().WithZone(""), port), nil
}

// parsePassive finds the port in a reply 227. The address before it is the server's idea of itself and of no interest. RFC 959
// leaves open what stands around the numbers (RFC 1123, section 4.1.2.6).
func parsePassive(text []byte) (uint16, error) {
	s := string(text)
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' || i > 0 && ('0' <= s[i-1] && s[i-1] <= '9' || s[i-1] == ',') {
			continue
		}
		if numbers, _, ok := six(s[i:]); ok {
			return of(numbers).Port(), nil
		}
	}
	return 0, errAddress
}

// parseExtendedPassive finds the port in a reply 229: (|||port|) with any printable delimiter (RFC 2428, section 3).
func parseExtendedPassive(text []byte) (uint16, error) {
	_, s, ok := bytes.Cut(text, []byte("("))
	if !ok || len(s) < 5 || s[0] <= ' ' || s[0] > '~' || s[1] != s[0] || s[2] != s[0] {
		return 0, errAddress
	}
	digits, after, ok := bytes.Cut(s[3:], s[:1])
	port, good := decimal(string(digits))
	if !ok || !good || len(after) == 0 || after[0] != ')' {
		return 0, errAddress
	}
	return port, nil
}

// decimal reads a port written with digits alone.
func decimal(s string) (uint16, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint16(n), err == nil && s[0] >= '0' && s[0] <= '9'
}

// commas is how PORT and 227 write an IPv4 address and port.
func commas(a netip.AddrPort) string {
	b := a.Addr().As4()
	return fmt.Sprintf("%d,%d,%d,%d,%d,%d", b[0], b[1], b[2], b[3], a.Port()>>8, a.Port()&255)
}

// extended is how EPRT writes an address and port.
func extended(a netip.AddrPort) string {
	return fmt.Sprintf("|%d|%s|%d|", protocolOf(a.Addr()), a.Addr().WithZone(""), a.Port())
}

// protocolOf is the number of an address's family (RFC 2428, section 2).
func protocolOf(a netip.Addr) int {
	if a.Is4() {
		return 1
	}
	return 2
}
