package upnp

import (
	"strconv"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// The actions of WANIPConnection that are about mappings; those with a 2 are version 2's.
const (
	AddPortMapping              = "AddPortMapping"
	AddAnyPortMapping           = "AddAnyPortMapping" // 2
	DeletePortMapping           = "DeletePortMapping"
	DeletePortMappingRange      = "DeletePortMappingRange" // 2
	GetExternalIPAddress        = "GetExternalIPAddress"
	GetGenericPortMappingEntry  = "GetGenericPortMappingEntry"
	GetSpecificPortMappingEntry = "GetSpecificPortMappingEntry"
	GetListOfPortMappings       = "GetListOfPortMappings" // 2
	GetStatusInfo               = "GetStatusInfo"
	GetNATRSIPStatus            = "GetNATRSIPStatus"
	GetConnectionTypeInfo       = "GetConnectionTypeInfo"
)

// MaxLease is how long a mapping of version 2 can last at most, in seconds, and how long one with lease 0 does (WANIPConnection:2,
// section 2.3.17).
const MaxLease = 604_800

// A PortMapping is the arguments that say what a mapping is.
type PortMapping struct {
	RemoteHost     string // who may come in: an address, or a name in the hands of the careless; "": everybody
	External       uint16 // 0: a wildcard, which means any port to AddAnyPortMapping, and to other actions nothing good
	Network        forward.Networks
	InternalPort   uint16
	InternalClient string // an address; "": who asks
	Enabled        bool
	Description    string
	Lease          uint32 // seconds; 0: for ever in version 1, MaxLease in version 2
}

// The names of the arguments.
const (
	argRemoteHost     = "NewRemoteHost"
	argExternalPort   = "NewExternalPort"
	argProtocol       = "NewProtocol"
	argInternalPort   = "NewInternalPort"
	argInternalClient = "NewInternalClient"
	argEnabled        = "NewEnabled"
	argDescription    = "NewPortMappingDescription"
	argLease          = "NewLeaseDuration"
)

// Args is the mapping as the arguments of AddPortMapping, and of what comes out of GetGenericPortMappingEntry.
func (m *PortMapping) Args() Args {
	return append(m.NameArgs(), m.EntryArgs()...)
}

// NameArgs is what names a mapping: the arguments of DeletePortMapping, and what goes into GetSpecificPortMappingEntry.
func (m *PortMapping) NameArgs() Args {
	return Args{{argRemoteHost, m.RemoteHost}, {argExternalPort, decimal(uint64(m.External))}, {argProtocol, Protocol(m.Network)}}
}

// EntryArgs is what comes out of GetSpecificPortMappingEntry.
func (m *PortMapping) EntryArgs() Args {
	enabled := "0"
	if m.Enabled {
		enabled = "1"
	}
	return Args{
		{argInternalPort, decimal(uint64(m.InternalPort))}, {argInternalClient, m.InternalClient}, {argEnabled, enabled},
		{argDescription, m.Description}, {argLease, decimal(uint64(m.Lease))},
	}
}

// Named reads the arguments that name a mapping. The error is a fault of the code that they deserve.
func (a Args) Named() (m PortMapping, err error) {
	m.RemoteHost = a.Of(argRemoteHost)
	var ok bool
	if strings.TrimSpace(a.Of(argExternalPort)) != "*" { // as some write the wildcard
		if m.External, ok = a.Port(argExternalPort); !ok {
			return m, NewFault(WANIPConnection, InvalidArgs)
		}
	}
	if m.Network, ok = ParseProtocol(a.Of(argProtocol)); !ok {
		return m, NewFault(WANIPConnection, InvalidArgs)
	}
	return m, nil
}

// Entry reads what is known of a mapping besides its name. An argument that is left out or empty has its default: enabled,
// without a description, lease 0.
func (a Args) Entry(m *PortMapping) error {
	port, ok := a.Port(argInternalPort)
	enabled, isBool := ParseBool(a.Of(argEnabled), true)
	lease, isNumber := number(a.Of(argLease), 32)
	if a.Of(argLease) == "" {
		lease, isNumber = 0, true
	}
	if !ok || !isBool || !isNumber {
		return NewFault(WANIPConnection, InvalidArgs)
	}
	m.InternalPort, m.InternalClient, m.Enabled = port, a.Of(argInternalClient), enabled
	m.Description, m.Lease = a.Of(argDescription), uint32(lease)
	return nil
}

// Mapping reads all arguments of AddPortMapping.
func (a Args) Mapping() (PortMapping, error) {
	m, err := a.Named()
	if err == nil {
		err = a.Entry(&m)
	}
	return m, err
}

// Port reads an argument that is a port: a number in decimal, with nothing around it but space.
func (a Args) Port(name string) (uint16, bool) {
	n, ok := a.Number(name, 16)
	return uint16(n), ok
}

// Number reads an argument that is a number of so many bits.
func (a Args) Number(name string, bits int) (uint64, bool) {
	return number(a.Of(name), bits)
}

func number(s string, bits int) (uint64, bool) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, bits)
	return n, err == nil
}

func decimal(n uint64) string { return strconv.FormatUint(n, 10) }

// Protocol is how UPnP writes a protocol, which is one of the two.
func Protocol(n forward.Networks) string { return strings.ToUpper(n.String()) }

// ParseProtocol reads "TCP" or "UDP" in any case.
func ParseProtocol(s string) (forward.Networks, bool) {
	switch {
	case strings.EqualFold(s, "TCP"):
		return forward.TCP, true
	case strings.EqualFold(s, "UDP"):
		return forward.UDP, true
	}
	return 0, false
}

// ParseBool reads a boolean as UPnP writes them (UDA 1.1, table 2-5); empty, it is what the caller says.
func ParseBool(s string, empty bool) (value, ok bool) {
	switch strings.ToLower(s) {
	case "":
		return empty, true
	case "1", "true", "yes":
		return true, true
	case "0", "false", "no":
		return false, true
	}
	return false, false
}
