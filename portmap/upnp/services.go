package upnp

import "strings"

// Gateway is the services of an Internet gateway of a version, 1 or 2, as this program serves them. Nothing of version 2 is in
// version 1: Windows and Xbox turn away from a device that mixes them.
func Gateway(version int) map[string]SCPD {
	ip := SCPD{Actions: actions(ipActions), State: variables(ipState)}
	if version == 2 {
		ip = SCPD{Minor: 1, Actions: actions(ipActions + ipActions2), State: variables(ipState2)}
	}
	m := map[string]SCPD{
		WANIPConnection:          ip,
		WANCommonInterfaceConfig: {Minor: version - 1, Actions: actions(linkActions), State: variables(linkState)},
		Layer3Forwarding:         {Minor: version - 1, Actions: actions(routeActions), State: variables(routeState)},
	}
	if version == 2 {
		m[WANIPv6FirewallControl] = SCPD{Minor: 1, Actions: actions(pinholeActions), State: variables(pinholeState)}
	}
	return m
}

// actions reads a list of actions: a line for each, "Name in:Variable … > out:Variable …". An argument without a variable is of the
// one that has its name without the "New".
func actions(text string) (list []Action) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		a, out := Action{Name: words[0]}, false
		for _, word := range words[1:] {
			if word == ">" {
				out = true
				continue
			}
			name, variable, named := strings.Cut(word, ":")
			if !named {
				variable = strings.TrimPrefix(name, "New")
			}
			a.Arguments = append(a.Arguments, Argument{name, out, variable})
		}
		list = append(list, a)
	}
	return list
}

// variables reads a list of variables: a line for each, "Name type [event] [=default] [a|b|c] [low..high]".
func variables(text string) (list []Variable) {
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 {
			continue
		}
		v := Variable{Name: words[0], Type: words[1]}
		for _, word := range words[2:] {
			low, high, isRange := strings.Cut(word, "..")
			switch {
			case word == "event":
				v.Event = true
			case word[0] == '=':
				v.Default = word[1:]
			case isRange:
				v.Range = [2]string{low, high}
			default:
				v.Allowed = strings.Split(word, "|")
			}
		}
		list = append(list, v)
	}
	return list
}

// WANIPConnection:1, tables 1 and 2: what is required of it.
const ipActions = `
SetConnectionType NewConnectionType
GetConnectionTypeInfo > NewConnectionType NewPossibleConnectionTypes
RequestConnection
ForceTermination
GetStatusInfo > NewConnectionStatus NewLastConnectionError NewUptime
GetNATRSIPStatus > NewRSIPAvailable NewNATEnabled
GetGenericPortMappingEntry NewPortMappingIndex:PortMappingNumberOfEntries > NewRemoteHost NewExternalPort NewProtocol:PortMappingProtocol NewInternalPort NewInternalClient NewEnabled:PortMappingEnabled NewPortMappingDescription NewLeaseDuration:PortMappingLeaseDuration
GetSpecificPortMappingEntry NewRemoteHost NewExternalPort NewProtocol:PortMappingProtocol > NewInternalPort NewInternalClient NewEnabled:PortMappingEnabled NewPortMappingDescription NewLeaseDuration:PortMappingLeaseDuration
AddPortMapping NewRemoteHost NewExternalPort NewProtocol:PortMappingProtocol NewInternalPort NewInternalClient NewEnabled:PortMappingEnabled NewPortMappingDescription NewLeaseDuration:PortMappingLeaseDuration
DeletePortMapping NewRemoteHost NewExternalPort NewProtocol:PortMappingProtocol
GetExternalIPAddress > NewExternalIPAddress
`

const ipState = `
ConnectionType string
PossibleConnectionTypes string event Unconfigured|IP_Routed|IP_Bridged
ConnectionStatus string event Unconfigured|Connecting|Connected|PendingDisconnect|Disconnecting|Disconnected
Uptime ui4
LastConnectionError string ERROR_NONE|ERROR_UNKNOWN
RSIPAvailable boolean
NATEnabled boolean
ExternalIPAddress string event
PortMappingNumberOfEntries ui2 event
PortMappingEnabled boolean
PortMappingLeaseDuration ui4
RemoteHost string
ExternalPort ui2
InternalPort ui2
PortMappingProtocol string TCP|UDP
InternalClient string
PortMappingDescription string
`

// WANIPConnection:2, tables 2-1 and 2-2: what is more.
const ipActions2 = `
DeletePortMappingRange NewStartPort:ExternalPort NewEndPort:ExternalPort NewProtocol:PortMappingProtocol NewManage:A_ARG_TYPE_Manage
GetListOfPortMappings NewStartPort:ExternalPort NewEndPort:ExternalPort NewProtocol:PortMappingProtocol NewManage:A_ARG_TYPE_Manage NewNumberOfPorts:PortMappingNumberOfEntries > NewPortListing:A_ARG_TYPE_PortListing
AddAnyPortMapping NewRemoteHost NewExternalPort NewProtocol:PortMappingProtocol NewInternalPort NewInternalClient NewEnabled:PortMappingEnabled NewPortMappingDescription NewLeaseDuration:PortMappingLeaseDuration > NewReservedPort:ExternalPort
`

const ipState2 = `
ConnectionType string
PossibleConnectionTypes string event Unconfigured|IP_Routed|IP_Bridged
ConnectionStatus string event Unconfigured|Connecting|Connected|PendingDisconnect|Disconnecting|Disconnected
Uptime ui4
LastConnectionError string ERROR_NONE|ERROR_UNKNOWN
RSIPAvailable boolean
NATEnabled boolean
ExternalIPAddress string event
PortMappingNumberOfEntries ui2 event
PortMappingEnabled boolean
PortMappingLeaseDuration ui4 =3600 0..604800
RemoteHost string
ExternalPort ui2
InternalPort ui2 1..65535
PortMappingProtocol string TCP|UDP
InternalClient string
PortMappingDescription string
SystemUpdateID ui4 event
A_ARG_TYPE_Manage boolean
A_ARG_TYPE_PortListing string
`

// WANCommonInterfaceConfig:1, tables 1 and 2.
const linkActions = `
GetCommonLinkProperties > NewWANAccessType NewLayer1UpstreamMaxBitRate NewLayer1DownstreamMaxBitRate NewPhysicalLinkStatus
GetTotalBytesSent > NewTotalBytesSent
GetTotalBytesReceived > NewTotalBytesReceived
GetTotalPacketsSent > NewTotalPacketsSent
GetTotalPacketsReceived > NewTotalPacketsReceived
`

const linkState = `
WANAccessType string DSL|POTS|Cable|Ethernet
Layer1UpstreamMaxBitRate ui4
Layer1DownstreamMaxBitRate ui4
PhysicalLinkStatus string event Up|Down|Initializing|Unavailable
TotalBytesSent ui4
TotalBytesReceived ui4
TotalPacketsSent ui4
TotalPacketsReceived ui4
`

// Layer3Forwarding:1. It says which connection is the default one, and nothing else.
const routeActions = `
SetDefaultConnectionService NewDefaultConnectionService
GetDefaultConnectionService > NewDefaultConnectionService
`

const routeState = `
DefaultConnectionService string event
`

// WANIPv6FirewallControl:1, tables 2-1 and 2-2, without the optional GetOutboundPinholeTimeout.
const pinholeActions = `
GetFirewallStatus > FirewallEnabled InboundPinholeAllowed
AddPinhole RemoteHost:A_ARG_TYPE_IPv6Address RemotePort:A_ARG_TYPE_Port InternalClient:A_ARG_TYPE_IPv6Address InternalPort:A_ARG_TYPE_Port Protocol:A_ARG_TYPE_Protocol LeaseTime:A_ARG_TYPE_LeaseTime > UniqueID:A_ARG_TYPE_UniqueID
UpdatePinhole UniqueID:A_ARG_TYPE_UniqueID NewLeaseTime:A_ARG_TYPE_LeaseTime
DeletePinhole UniqueID:A_ARG_TYPE_UniqueID
GetPinholePackets UniqueID:A_ARG_TYPE_UniqueID > PinholePackets:A_ARG_TYPE_PinholePackets
CheckPinholeWorking UniqueID:A_ARG_TYPE_UniqueID > IsWorking:A_ARG_TYPE_Boolean
`

const pinholeState = `
FirewallEnabled boolean event
InboundPinholeAllowed boolean event
A_ARG_TYPE_IPv6Address string
A_ARG_TYPE_Port ui2
A_ARG_TYPE_Protocol ui2
A_ARG_TYPE_LeaseTime ui4 1..86400
A_ARG_TYPE_UniqueID ui2
A_ARG_TYPE_PinholePackets ui4
A_ARG_TYPE_Boolean boolean
`
