package sshchan

import (
	"errors"
	"net"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Types of channels and requests: RFC 4254, section 7, and the streamlocal ones of OpenSSH's PROTOCOL, section 2.4.
const (
	Direct        = "direct-tcpip"
	DirectUnix    = "direct-streamlocal@openssh.com"
	Forwarded     = "forwarded-tcpip"
	ForwardedUnix = "forwarded-streamlocal@openssh.com"

	Forward     = "tcpip-forward"
	Cancel      = "cancel-tcpip-forward"
	ForwardUnix = "streamlocal-forward@openssh.com"
	CancelUnix  = "cancel-streamlocal-forward@openssh.com"

	Keepalive = "keepalive@openssh.com" // is answered, with yes or no (RFC 4254, section 4)
)

// Longest of what is named: a host (RFC 1035, section 2.3.4) and a path of a unix socket (unix(7)).
const (
	MaxHost = 255
	MaxPath = 107
)

// Their payloads, for ssh.Marshal and ssh.Unmarshal.
type (
	// TCPChannel opens a Direct channel and a Forwarded one (RFC 4254, section 7.2).
	TCPChannel struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	// DirectUnixChannel opens a DirectUnix channel. Its origin is reserved.
	DirectUnixChannel struct {
		Path       string
		OriginHost string
		OriginPort uint32
	}
	// ForwardedUnixChannel opens a ForwardedUnix channel.
	ForwardedUnixChannel struct{ Path, Reserved string }

	// TCPRequest is that of Forward and Cancel (RFC 4254, section 7.1).
	TCPRequest struct {
		Host string
		Port uint32
	}
	// UnixRequest is that of ForwardUnix and CancelUnix.
	UnixRequest struct{ Path string }
	// PortAnswer is the answer to a Forward with port 0.
	PortAnswer struct{ Port uint32 }
)

// ErrPayload is that the far end does not keep to the protocol.
var ErrPayload = errors.New("the request is malformed")

// A Place is where a channel leads, or where somebody is to listen, as the far end wrote it: it tells its forwards apart by
// the text.
type Place struct {
	Host string // a name or an address; "" is every address, of one to listen at
	Port uint16
	Path string // of a unix socket; then nothing else is set
}

func (p Place) String() string {
	if p.Path != "" {
		return p.Path
	}
	return net.JoinHostPort(p.Host, strconv.Itoa(int(p.Port)))
}

// ParseDirect reads what opens a Direct channel.
func ParseDirect(payload []byte) (Place, error) {
	var m TCPChannel
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Port == 0 || m.Port > 65535 || !validHost(m.Host) || m.Host == "" {
		return Place{}, ErrPayload
	}
	return Place{Host: m.Host, Port: uint16(m.Port)}, nil
}

// ParseDirectUnix reads what opens a DirectUnix channel.
func ParseDirectUnix(payload []byte) (Place, error) {
	var m DirectUnixChannel
	if err := ssh.Unmarshal(payload, &m); err != nil || !validPath(m.Path) {
		return Place{}, ErrPayload
	}
	return Place{Path: m.Path}, nil
}

// ParseTCPRequest reads what asks for a listener, or for the end of one.
func ParseTCPRequest(payload []byte) (Place, error) {
	var m TCPRequest
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Port > 65535 || !validHost(m.Host) {
		return Place{}, ErrPayload
	}
	return Place{Host: m.Host, Port: uint16(m.Port)}, nil
}

// ParseUnixRequest is ParseTCPRequest for a socket.
func ParseUnixRequest(payload []byte) (Place, error) {
	var m UnixRequest
	if err := ssh.Unmarshal(payload, &m); err != nil || !validPath(m.Path) {
		return Place{}, ErrPayload
	}
	return Place{Path: m.Path}, nil
}

// An Arrival is what a server says of a connection that it has accepted.
type Arrival struct {
	At     Place  // where it was accepted
	Origin string // who connects: an address, or any text; "" for unix sockets
	Port   uint16 // of the origin
}

// ParseForwarded reads what opens a Forwarded channel. The host is only compared with those that were asked for, so any is
// taken.
func ParseForwarded(payload []byte) (Arrival, error) {
	var m TCPChannel
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Port == 0 || m.Port > 65535 || m.OriginPort > 65535 {
		return Arrival{}, ErrPayload
	}
	return Arrival{At: Place{Host: m.Host, Port: uint16(m.Port)}, Origin: m.OriginHost, Port: uint16(m.OriginPort)}, nil
}

// ParseForwardedUnix reads what opens a ForwardedUnix channel. Any path is taken.
func ParseForwardedUnix(payload []byte) (Arrival, error) {
	var m ForwardedUnixChannel
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Path == "" {
		return Arrival{}, ErrPayload
	}
	return Arrival{At: Place{Path: m.Path}}, nil
}

// OriginOf is a client's address in the form of RFC 4254, section 7.2; zero is nobody in particular. Some refuse port 0.
func OriginOf(client netip.AddrPort) (host string, port uint32) {
	if !client.IsValid() {
		return "127.0.0.1", 1
	}
	return client.Addr().Unmap().WithZone("").String(), uint32(client.Port())
}

// validHost takes what may be a name or address, without deciding whether it is one.
func validHost(s string) bool {
	return len(s) <= MaxHost && strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '/' }) < 0
}

func validPath(s string) bool {
	return len(s) <= MaxPath && strings.HasPrefix(s, "/") && strings.IndexByte(s, 0) < 0
}
