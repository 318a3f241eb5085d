package upnp

// The codes of all services (UDA 1.1, table 3-3; 606 is of the architecture's later parts).
const (
	InvalidAction   = 401
	InvalidArgs     = 402
	ActionFailed    = 501
	ValueInvalid    = 600
	ValueOutOfRange = 601
	NotImplemented  = 602
	NotAuthorized   = 606
)

// The codes of WANIPConnection (version 1, section 2.4; those with a 2 are version 2's).
const (
	InvalidIndex     = 713
	NoSuchEntry      = 714
	NoWildcardSource = 715
	NoWildcardPort   = 716
	Conflict         = 718
	SamePortRequired = 724
	OnlyPermanent    = 725
	OnlyAnyRemote    = 726
	OnlyAnyPort      = 727
	NoPorts          = 728 // 2
	OtherMechanism   = 729 // 2
	NoneInRange      = 730 // 2
	ReadOnly         = 731 // 2
	NoWildcardInside = 732 // 2
	Inconsistent     = 733 // 2
)

// The codes of WANIPv6FirewallControl (section 2.4). They overlap with those of other services.
const (
	PinholeSpaceExhausted = 701
	FirewallDisabled      = 702
	PinholesNotAllowed    = 703
	NoSuchPinhole         = 704
	ProtocolNotSupported  = 705
	NoWildcardInternal    = 706
	NoWildcardProtocol    = 707
	NoWildcardSource6     = 708
	NoPacketSent          = 709
)

// NewFault is the fault of a code of the service with that type, with the words that the standards have for it.
func NewFault(service string, code int) *Fault {
	words := faultWords
	if name, _, _ := cutVersion(service); name == WANIPv6FirewallControl && code >= 700 && code < 710 {
		words = pinholeWords
	}
	text := words[code]
	if text == "" {
		text = "Action Failed"
	}
	return &Fault{code, text}
}

var faultWords = map[int]string{
	InvalidAction:    "Invalid Action",
	InvalidArgs:      "Invalid Args",
	ActionFailed:     "Action Failed",
	ValueInvalid:     "Argument Value Invalid",
	ValueOutOfRange:  "Argument Value Out of Range",
	NotImplemented:   "Optional Action Not Implemented",
	NotAuthorized:    "Action not authorized",
	InvalidIndex:     "SpecifiedArrayIndexInvalid",
	NoSuchEntry:      "NoSuchEntryInArray",
	NoWildcardSource: "WildCardNotPermittedInSrcIP",
	NoWildcardPort:   "WildCardNotPermittedInExtPort",
	Conflict:         "ConflictInMappingEntry",
	SamePortRequired: "SamePortValuesRequired",
	OnlyPermanent:    "OnlyPermanentLeasesSupported",
	OnlyAnyRemote:    "RemoteHostOnlySupportsWildcard",
	OnlyAnyPort:      "ExternalPortOnlySupportsWildcard",
	NoPorts:          "NoPortMapsAvailable",
	OtherMechanism:   "ConflictWithOtherMechanisms",
	NoneInRange:      "PortMappingNotFound",
	ReadOnly:         "ReadOnly",
	NoWildcardInside: "WildCardNotPermittedInIntPort",
	Inconsistent:     "InconsistentParameters",
}

var pinholeWords = map[int]string{
	PinholeSpaceExhausted: "PinholeSpaceExhausted",
	FirewallDisabled:      "FirewallDisabled",
	PinholesNotAllowed:    "InboundPinholeNotAllowed",
	NoSuchPinhole:         "NoSuchEntry",
	ProtocolNotSupported:  "ProtocolNotSupported",
	NoWildcardInternal:    "InternalPortWildcardingNotAllowed",
	NoWildcardProtocol:    "ProtocolWildcardingNotAllowed",
	NoWildcardSource6:     "WildCardNotPermittedInSrcIP",
	NoPacketSent:          "NoPacketSent",
}
