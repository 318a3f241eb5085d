package wake

import (
	"encoding/binary"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// bindTo makes a socket send by one interface, whatever the routes say: two interfaces may be in networks of the same
// addresses. Since Linux 5.7 that takes no privilege. Where it is refused the address of the socket decides, as elsewhere.
func bindTo(name string) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if ctrlErr := c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), name) }); ctrlErr != nil {
			return ctrlErr
		}
		if err == unix.EPERM {
			return nil
		}
		return err
	}
}

// etherType is the one that ether-wake(8) and most cards' makers use. It is not assigned by IEEE; a card ignores it.
const etherType = 0x0842

// sendFrames sends the packet as an Ethernet frame of its own to each address, by each link that is Ethernet. It needs no
// address on either side, nor that the host's is known to this one's neighbour table. Without CAP_NET_RAW it sends none.
func sendFrames(chosen []link, to []forward.MAC, packet []byte) []Copy {
	// Protocol 0: this socket receives nothing. SOCK_DGRAM: the kernel writes the header, with the link's own address.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	var copies []Copy
	for _, l := range chosen {
		if !l.ethernet {
			continue
		}
		for _, mac := range to {
			addr := &unix.SockaddrLinklayer{Protocol: networkOrder(etherType), Ifindex: l.index, Halen: uint8(len(mac))}
			copy(addr.Addr[:], mac[:])
			copies = append(copies, Copy{Interface: l.name, To: mac.String(), Err: unix.Sendto(fd, packet, 0, addr)})
		}
	}
	return copies
}

// networkOrder is v as a field that the kernel reads in network byte order.
func networkOrder(v uint16) uint16 {
	var b [2]byte
	binary.BigEndian.PutUint16(b[:], v)
	return binary.NativeEndian.Uint16(b[:])
}
