package sshd

import (
	"errors"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"
)

// Types of channels and requests: RFC 4254, section 7, and the streamlocal ones of OpenSSH's PROTOCOL, section 2.4.
const (
	channelSession       = "session"
	channelDirect        = "direct-tcpip"
	channelDirectUnix    = "direct-streamlocal@openssh.com"
	channelForwarded     = "forwarded-tcpip"
	channelForwardedUnix = "forwarded-streamlocal@openssh.com"

	requestForward       = "tcpip-forward"
	requestCancel        = "cancel-tcpip-forward"
	requestForwardUnix   = "streamlocal-forward@openssh.com"
	requestCancelUnix    = "cancel-streamlocal-forward@openssh.com"
	requestKeepalive     = "keepalive@openssh.com"
	requestNoMoreSession = "no-more-sessions@openssh.com"
)

var errPayload = errors.New("the request is malformed")

// Longest of what clients name: a host (RFC 1035, section 2.3.4) and a path of a unix socket (unix(7)).
const (
	maxHost = 255
	maxPath = 107
)

// destination is where a direct channel leads.
type destination struct {
	host string
	port uint16
	path string // then nothing else is set
}

type directMessage struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

// parseDirect reads what opens a direct-tcpip channel (RFC 4254, section 7.2).
func parseDirect(payload []byte) (destination, error) {
	var m directMessage
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Port == 0 || m.Port > 65535 || !validHost(m.Host) || m.Host == "" {
		return destination{}, errPayload
	}
	return destination{host: m.Host, port: uint16(m.Port)}, nil
}

type directUnixMessage struct {
	Path       string
	OriginHost string
	OriginPort uint32
}

func parseDirectUnix(payload []byte) (destination, error) {
	var m directUnixMessage
	if err := ssh.Unmarshal(payload, &m); err != nil || !validPath(m.Path) {
		return destination{}, errPayload
	}
	return destination{path: m.Path}, nil
}

// An address is where a client wants to have listened, as it wrote it: its own client tells its forwards apart by the text.
type address struct {
	host string
	port uint16
	path string // then nothing else is set
}

type forwardMessage struct {
	Host string
	Port uint32
}

// parseForward reads what asks for a listener, or for the end of one (RFC 4254, section 7.1).
func parseForward(payload []byte) (address, error) {
	var m forwardMessage
	if err := ssh.Unmarshal(payload, &m); err != nil || m.Port > 65535 || !validHost(m.Host) {
		return address{}, errPayload
	}
	return address{host: m.Host, port: uint16(m.Port)}, nil
}

type forwardUnixMessage struct{ Path string }

func parseForwardUnix(payload []byte) (address, error) {
	var m forwardUnixMessage
	if err := ssh.Unmarshal(payload, &m); err != nil || !validPath(m.Path) {
		return address{}, errPayload
	}
	return address{path: m.Path}, nil
}

type forwardedMessage struct {
	Host       string
	Port       uint32
	OriginHost string
	OriginPort uint32
}

type forwardedUnixMessage struct{ Path, Reserved string }

type portMessage struct{ Port uint32 }

type exitMessage struct{ Status uint32 }

// originOf is a client's address in the form of RFC 4254, section 7.2. Some clients refuse port 0.
func originOf(client netip.AddrPort) (host string, port uint32) {
	if !client.IsValid() {
		return "127.0.0.1", 1
	}
	return client.Addr().Unmap().String(), uint32(client.Port())
}

// validHost takes what may be a name or address, without deciding whether it is one.
func validHost(s string) bool {
	return len(s) <= maxHost && strings.IndexFunc(s, func(c rune) bool { return c <= ' ' || c >= 0x7f || c == '/' }) < 0
}

func validPath(s string) bool {
	return len(s) <= maxPath && strings.HasPrefix(s, "/") && strings.IndexByte(s, 0) < 0
}
