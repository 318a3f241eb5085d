package sshwire

import (
	"errors"
	"net"
	"net/netip"
	"strings"

	"golang.org/x/crypto/ssh"
)

// sourceAddress is the critical option that says where a client may come from (OpenSSH's PROTOCOL.certkeys).
const sourceAddress = "source-address"

var errSource = errors.New("the key may not be used from this address")

// checkSource holds a client to the source-address of its permissions: addresses and networks, with commas between. An empty
// list permits nothing, and so does an address that is none of IP.
func checkSource(p *ssh.Permissions, from net.Addr) error {
	if p == nil {
		return nil
	}
	list, ok := p.CriticalOptions[sourceAddress]
	if !ok {
		return nil
	}
	tcp, ok := from.(*net.TCPAddr)
	if !ok {
		return errSource
	}
	addr := tcp.AddrPort().Addr().Unmap().WithZone("")
	for entry := range strings.SplitSeq(list, ",") {
		entry = strings.TrimSpace(entry)
		if one, err := netip.ParseAddr(entry); err == nil && one.Unmap() == addr {
			return nil
		}
		if network, err := netip.ParsePrefix(entry); err == nil && network.Contains(addr) {
			return nil
		}
	}
	return errSource
}
