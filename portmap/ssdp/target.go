package ssdp

import (
	"strconv"
	"strings"
)

// A Type is the type of a device or service, as in "urn:schemas-upnp-org:service:WANIPConnection:1".
type Type struct {
	Name    string // all but the version: "urn:schemas-upnp-org:service:WANIPConnection"
	Version int
}

func (t Type) String() string { return t.Name + ":" + strconv.Itoa(t.Version) }

// ParseType reads a type with its version.
func ParseType(s string) (Type, bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || !strings.HasPrefix(s, "urn:") {
		return Type{}, false
	}
	n, err := strconv.ParseUint(s[i+1:], 10, 8)
	if err != nil || n == 0 {
		return Type{}, false
	}
	return Type{s[:i], int(n)}, true
}

// Serves reports whether something of type t is what a search for want looks for: it is of that version or of a later one, which
// can do all that the earlier one does (UDA 1.1, section 1.3.2).
func (t Type) Serves(want Type) bool { return t.Name == want.Name && want.Version <= t.Version }

// USN is the name of target in the device of a UUID (UDA 1.1, table 1-1). The name of the device itself is its UUID alone.
func USN(uuid, target string) string {
	if target == "uuid:"+uuid {
		return target
	}
	return "uuid:" + uuid + "::" + target
}
