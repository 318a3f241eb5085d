package sshconfig

import "time"

// Host is what holds for one host: what was said, and the defaults of ssh_config(5) where nothing was. Paths are whole, and
// tokens are put in, except in SendEnv, which has patterns.
type Host struct {
	Original string // as it was asked for
	Hostname string // that is connected to
	Port     uint16
	User     string

	Identities     []string // IdentityFile, without "none"; none said: the usual ones
	IdentitiesOnly bool
	IdentityAgent  string   // socket, "none", or "" for $SSH_AUTH_SOCK
	Certificates   []string // CertificateFile

	ProxyJump    []string // destinations, the first is dialled first; none: no jump
	ProxyCommand string   // for the shell, with tokens put in; "" is none

	UserKnownHosts        []string // without "none"
	GlobalKnownHosts      []string
	StrictHostKeyChecking Strict
	HostKeyAlias          string
	HashKnownHosts        bool
	RevokedHostKeys       string // "" is none

	ServerAliveInterval time.Duration // 0 is not at all
	ServerAliveCountMax int
	ConnectTimeout      time.Duration // 0 is the system's
	ConnectionAttempts  int
	AddressFamily       string // "any", "inet", "inet6"
	BindAddress         string
	BindInterface       string
	TCPKeepAlive        bool

	// Lists with commas as they were written, also with a "+", "-" or "^" before them; "" is the default. Assemble resolves
	// them.
	Ciphers, KexAlgorithms, MACs, HostKeyAlgorithms, PubkeyAcceptedAlgorithms string

	LocalForwards, RemoteForwards, DynamicForwards []Forward

	GatewayPorts, ExitOnForwardFailure, ClearAllForwardings bool
	StreamLocalBindUnlink                                   bool
	StreamLocalBindMask                                     uint32

	RequestTTY    string // "auto", "no", "yes", "force"
	RemoteCommand string // "" is none
	SessionType   string // "default", "none", "subsystem"
	StdinNull     bool
	SendEnv       []string // patterns of names
	SetEnv        []string // "NAME=value"
	EscapeChar    string   // one byte, or "none"
	LogLevel      string   // in upper case
	ForwardAgent  string   // "no", "yes", or a socket

	PreferredAuthentications                                                   []string // none: the usual order
	PasswordAuthentication, PubkeyAuthentication, KbdInteractiveAuthentication bool
	NumberOfPasswordPrompts                                                    int
	BatchMode                                                                  bool // nothing is asked

	said map[string]bool
	raw  map[string][]string // as OpenSSH's -G prints them
}

// Said reports whether a keyword was said at all, so that somebody else's default does not overrule it.
func (h *Host) Said(keyword string) bool { return h.said[lower(keyword)] }

// Strict is what is done about host keys that are not known.
type Strict uint8

// The ways of StrictHostKeyChecking.
const (
	StrictAsk       Strict = iota // the user is asked
	StrictYes                     // refused
	StrictAcceptNew               // believed and written down; a changed one is refused
	StrictNo                      // believed and written down, and a changed one too (OpenSSH)
)

func (s Strict) String() string {
	return []string{"ask", "true", "accept-new", "false"}[s]
}
