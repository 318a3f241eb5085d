package sshnode

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
	"github.com/fairlead-net/fairlead/node"
)

// maxPath bounds the path of a socket at a server: no system takes a longer one.
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
		from, fromPort := sshchan.OriginOf(client)
		o.kind, o.remote = sshchan.Direct, hostAddr(host, uint32(port))
		o.payload = ssh.Marshal(sshchan.TCPChannel{Host: host, Port: uint32(port), OriginHost: from, OriginPort: fromPort})
	case "unix":
		if addr == "" || len(addr) > maxPath {
			return o, fmt.Errorf("unix/%s: that is no path of a socket", clean(addr))
		}
		o.kind, o.payload = sshchan.DirectUnix, ssh.Marshal(sshchan.DirectUnixChannel{Path: addr})
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

// origin is who connects, as a server says.
func origin(a sshchan.Arrival) net.Addr {
	if a.At.Path != "" {
		return &net.UnixAddr{Net: "unix"}
	}
	return hostAddr(a.Origin, uint32(a.Port))
}
