package sshnode

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/node"
)

// Channels and requests of RFC 4254, section 7, and of OpenSSH's PROTOCOL, section 2.4.
const (
	directTCP   = "direct-tcpip"
	directUnix  = "direct-streamlocal@openssh.com"
	tcpChannel  = "forwarded-tcpip"
	unixChannel = "forwarded-streamlocal@openssh.com"

	tcpForward  = "tcpip-forward"
	tcpCancel   = "cancel-tcpip-forward"
	unixForward = "streamlocal-forward@openssh.com"
	unixCancel  = "cancel-streamlocal-forward@openssh.com"
)

// Payloads, for ssh.Marshal and ssh.Unmarshal.
type (
	directTCPMsg struct {
		Host       string
		Port       uint32
		OriginHost string
		OriginPort uint32
	}
	directUnixMsg struct {
		Path      string
		Reserved0 string
		Reserved1 uint32
	}
	forwardTCPMsg struct {
		Host string
		Port uint32
	}
	forwardUnixMsg   struct{ Path string }
	forwardedTCPMsg  = directTCPMsg
	forwardedUnixMsg struct {
		Path     string
		Reserved string
	}
	allocatedMsg struct{ Port uint32 }
)

// maxPath bounds the path of a socket: no system takes a longer one.
const maxPath = 1024

// openFor is the channel that connects the server to addr for a client, who may be zero.
func openFor(client netip.AddrPort, network, addr string) (opening, error) {
	o := opening{what: network + "/" + addr}
	switch network {
	case "tcp", "tcp4", "tcp6":
		host, text, err := net.SplitHostPort(addr)
		if err != nil {
			return o, err
		}
		port, err := net.LookupPort(network, text)
		if err != nil {
			return o, err
		}
		if host == "" {
			host = "localhost"
		}
		msg := directTCPMsg{Host: host, Port: uint32(port), OriginHost: "127.0.0.1"}
		if client.IsValid() {
			msg.OriginHost, msg.OriginPort = client.Addr().Unmap().WithZone("").String(), uint32(client.Port())
		}
		o.kind, o.payload, o.remote = directTCP, ssh.Marshal(&msg), hostAddr(host, uint32(port))
	case "unix":
		if addr == "" || len(addr) > maxPath {
			return o, fmt.Errorf("unix/%s: that is no path of a socket", clean(addr))
		}
		o.kind, o.payload = directUnix, ssh.Marshal(&directUnixMsg{Path: addr})
		o.remote = &net.UnixAddr{Net: "unix", Name: addr}
	default:
		return o, fmt.Errorf("%s: an SSH server carries tcp and unix only: %w", o.what, node.ErrUnfit)
	}
	return o, nil
}

// A nameAddr is a TCP address whose host is a name.
type nameAddr string

func (nameAddr) Network() string  { return "tcp" }
func (a nameAddr) String() string { return string(a) }

// hostAddr is a *net.TCPAddr where host is an IP address.
func hostAddr(host string, port uint32) net.Addr {
	if ip, err := netip.ParseAddr(host); err == nil && port <= 65535 {
		return net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, uint16(port)))
	}
	return nameAddr(net.JoinHostPort(clean(host), strconv.Itoa(int(port))))
}

// localAddr is this end of a connection to remote, which has no address that we know.
func localAddr(remote net.Addr) net.Addr {
	if _, ok := remote.(*net.UnixAddr); ok {
		return &net.UnixAddr{Net: "unix"}
	}
	return &net.TCPAddr{IP: net.IPv4zero}
}

// An arrival is what a server says of a connection that it has accepted.
type arrival struct {
	network string
	host    string // where it was accepted, or the path
	port    uint32
	origin  net.Addr
}

func parseForwardedTCP(payload []byte) (arrival, error) {
	var m forwardedTCPMsg
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return arrival{}, err
	}
	if m.Port == 0 || m.Port > 65535 || m.OriginPort > 65535 {
		return arrival{}, fmt.Errorf("port %d or %d is none", m.Port, m.OriginPort)
	}
	return arrival{"tcp", m.Host, m.Port, hostAddr(m.OriginHost, m.OriginPort)}, nil
}

func parseForwardedUnix(payload []byte) (arrival, error) {
	var m forwardedUnixMsg
	if err := ssh.Unmarshal(payload, &m); err != nil {
		return arrival{}, err
	}
	if m.Path == "" || len(m.Path) > maxPath {
		return arrival{}, fmt.Errorf("a path of %d bytes is none", len(m.Path))
	}
	return arrival{network: "unix", host: m.Path, origin: &net.UnixAddr{Net: "unix"}}, nil
}
