package netlab

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A tap is a packet socket that takes and sends the frames of an interface, in one piece where the kernel has joined several packets.
// Each has a header in front that says how it is to be cut, and what of its checksum is yet to be computed.
type tap struct{ *os.File }

const (
	// The header, struct virtio_net_hdr of linux/virtio_net.h.
	virtioSize       = 10
	virtioGSOType    = 1 // where in it: one byte, 0 for a packet that is one
	virtioHeaderSize = 2 // the bytes that each packet would begin with
	virtioGSOSize    = 4 // the bytes that each would carry besides

	frameRoom = virtioSize + 14 + 4 + 65535 // with Ethernet's header, a VLAN's, and the longest packet
	tapRoom   = 32 << 20                    // bytes that wait to be taken, with the kernel's own overhead
)

func openTap(n *Node, iface string) (*tap, error) {
	link, err := n.nl.LinkByName(iface)
	if err != nil {
		return nil, err
	}
	fd := -1
	err = n.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	t := &tap{os.NewFile(uintptr(fd), "packets of "+iface)}
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1},
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, tapRoom},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, tapRoom},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			_ = t.Close()
			return nil, fmt.Errorf("packet socket: option %d: %w", o.name, err)
		}
	}
	every := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: every, Ifindex: link.Attrs().Index}); err != nil {
		_ = t.Close()
		return nil, fmt.Errorf("packet socket: bind to %s: %w", iface, err)
	}
	return t, nil
}

// onWire is how many bytes the packets of a frame are together, with a header for each.
func onWire(frame []byte) int {
	n := len(frame) - virtioSize
	if frame[virtioGSOType] == 0 {
		return n
	}
	header := int(binary.NativeEndian.Uint16(frame[virtioHeaderSize:]))
	size := int(binary.NativeEndian.Uint16(frame[virtioGSOSize:]))
	if size == 0 || n <= header {
		return n
	}
	return n + ((n-header+size-1)/size-1)*header
}

// local reports whether a frame is how hosts of one network find each other: ARP, or neighbour discovery (RFC 4861 section 4).
func local(frame []byte) bool {
	const (
		ethernet = 14
		nextAt   = ethernet + 6
		typeAt   = ethernet + 40
	)
	b := frame[virtioSize:]
	if len(b) < ethernet {
		return false
	}
	switch binary.BigEndian.Uint16(b[12:]) {
	case unix.ETH_P_ARP:
		return true
	case unix.ETH_P_IPV6:
		return len(b) > typeAt && b[nextAt] == unix.IPPROTO_ICMPV6 && b[typeAt] >= 133 && b[typeAt] <= 137
	}
	return false
}
