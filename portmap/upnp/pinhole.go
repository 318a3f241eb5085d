package upnp

// The actions of WANIPv6FirewallControl.
const (
	GetFirewallStatus   = "GetFirewallStatus"
	AddPinhole          = "AddPinhole"
	UpdatePinhole       = "UpdatePinhole"
	DeletePinhole       = "DeletePinhole"
	GetPinholePackets   = "GetPinholePackets"
	CheckPinholeWorking = "CheckPinholeWorking"
)

// How long a pinhole can last, in seconds (WANIPv6FirewallControl:1, section 2.3.7), and the number that is any protocol (2.3.6).
const (
	MinPinhole  = 1
	MaxPinhole  = 86_400
	AnyProtocol = 65_535
)

// A Pinhole is the arguments of AddPinhole.
type Pinhole struct {
	RemoteHost     string // an address; "": everybody
	RemotePort     uint16 // 0: any
	InternalClient string // an address
	InternalPort   uint16 // 0: any
	Protocol       uint16 // IANA's number
	Lease          uint32 // seconds
}

// Args is the pinhole as arguments.
func (p *Pinhole) Args() Args {
	return Args{
		{"RemoteHost", p.RemoteHost}, {"RemotePort", decimal(uint64(p.RemotePort))}, {"InternalClient", p.InternalClient},
		{"InternalPort", decimal(uint64(p.InternalPort))}, {"Protocol", decimal(uint64(p.Protocol))}, {"LeaseTime", decimal(uint64(p.Lease))},
	}
}

// Pinhole reads the arguments of AddPinhole.
func (a Args) Pinhole() (Pinhole, error) {
	remote, ok1 := a.Port("RemotePort")
	internal, ok2 := a.Port("InternalPort")
	protocol, ok3 := a.Port("Protocol")
	lease, ok4 := a.Number("LeaseTime", 32)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return Pinhole{}, NewFault(WANIPv6FirewallControl, InvalidArgs)
	}
	return Pinhole{a.Of("RemoteHost"), remote, a.Of("InternalClient"), internal, protocol, uint32(lease)}, nil
}
