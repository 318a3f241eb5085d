package ssdp

import (
	"strconv"
	"strings"
)

// Append writes the datagram to b. Control characters in its strings are left out, so that a foreign one cannot add a field.
func (m *Message) Append(b []byte) []byte {
	switch m.Kind {
	case Search:
		b = append(b, "M-SEARCH * HTTP/1.1\r\n"...)
		b = text(b, "HOST", m.Host)
		b = text(b, "MAN", `"ssdp:discover"`)
		b = count(b, "MX", uint32(max(m.MX, 0)))
		b = text(b, "ST", m.Target)
		b = text(b, "USER-AGENT", m.Agent)
		return append(b, "\r\n"...)
	case Answer:
		b = append(b, "HTTP/1.1 200 OK\r\n"...)
		b = m.validity(b)
		b = text(b, "ST", m.Target)
		b = append(b, "EXT:\r\n"...) // UDA 1.0 wanted it, and some clients look for it
	default:
		b = append(b, "NOTIFY * HTTP/1.1\r\n"...)
		b = text(b, "HOST", m.Host)
		if m.Kind == Alive {
			b = m.validity(b)
		}
		b = text(b, "NT", m.Target)
		b = text(b, "NTS", m.Kind.String())
	}
	b = text(b, "USN", m.USN)
	if m.Kind != ByeBye {
		b = text(b, "LOCATION", m.Location)
		b = text(b, "SERVER", m.Agent)
	}
	if m.Boot != 0 { // the namespace of the fields after it (UDA 1.1, section 1.2.2)
		b = append(b, "OPT: \"http://schemas.upnp.org/upnp/1/0/\"; ns=01\r\n"...)
		b = count(b, "01-NLS", m.Boot)
	}
	b = count(b, "BOOTID.UPNP.ORG", m.Boot)
	b = count(b, "NEXTBOOTID.UPNP.ORG", m.NextBoot)
	b = count(b, "CONFIGID.UPNP.ORG", m.Config)
	return append(b, "\r\n"...)
}

func (m *Message) validity(b []byte) []byte {
	if m.MaxAge <= 0 {
		return b
	}
	b = append(b, "CACHE-CONTROL: max-age="...)
	b = strconv.AppendInt(b, int64(m.MaxAge), 10)
	return append(b, "\r\n"...)
}

func text(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(append(b, name...), ": "...)
	if strings.ContainsFunc(value, isControl) {
		value = strings.Map(func(r rune) rune {
			if isControl(r) {
				return -1
			}
			return r
		}, value)
	}
	return append(append(b, value...), "\r\n"...)
}

func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

func count(b []byte, name string, n uint32) []byte {
	if n == 0 {
		return b
	}
	b = append(append(b, name...), ": "...)
	return append(strconv.AppendUint(b, uint64(n), 10), "\r\n"...)
}
