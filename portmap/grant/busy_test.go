package grant

import (
	"net"
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestBusy(t *testing.T) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	ln, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	if !Busy(forward.TCP, netip.AddrPortFrom(loopback, port)) {
		t.Error("a program listens on every address, and the port is free")
	}
	pc, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := pc.LocalAddr().(*net.UDPAddr).AddrPort()
	if !Busy(forward.UDP, at) {
		t.Error("a program has the UDP port, and it is free")
	}
	pc.Close()
	if Busy(forward.UDP, at) {
		t.Error("nobody has the UDP port, and it is busy")
	}
	if Busy(forward.TCP, netip.MustParseAddrPort("192.0.2.1:80")) {
		t.Error("an address of nobody here has programs")
	}
}
