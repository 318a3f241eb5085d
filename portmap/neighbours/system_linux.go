package neighbours

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// system is the kernel's neighbour table, IPv4 and IPv6, of this network namespace.
func system(add func(addr netip.Addr, mac string)) error {
	dump, err := syscall.NetlinkRIB(unix.RTM_GETNEIGH, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("the neighbour table cannot be read: %w", err)
	}
	return parseDump(dump, add)
}

// usable is the states of an entry that names a host (linux/neighbour.h). One that failed or is still being asked for names none.
const usable = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE | unix.NUD_PERMANENT

// parseDump reads the answer to RTM_GETNEIGH.
func parseDump(dump []byte, add func(addr netip.Addr, mac string)) error {
	messages, err := syscall.ParseNetlinkMessage(dump)
	if err != nil {
		return fmt.Errorf("the neighbour table cannot be read: %w", err)
	}
	for _, m := range messages {
		if m.Header.Type == unix.RTM_NEWNEIGH {
			parseNeighbour(m.Data, add)
		}
	}
	return nil
}

// parseNeighbour reads one entry: struct ndmsg, then attributes.
func parseNeighbour(data []byte, add func(addr netip.Addr, mac string)) {
	if len(data) < unix.SizeofNdMsg || binary.NativeEndian.Uint16(data[8:])&usable == 0 {
		return
	}
	var addr netip.Addr
	var mac string
	for rest := data[unix.SizeofNdMsg:]; len(rest) >= unix.SizeofRtAttr; {
		length, kind := int(binary.NativeEndian.Uint16(rest)), binary.NativeEndian.Uint16(rest[2:])
		if length < unix.SizeofRtAttr || length > len(rest) {
			return
		}
		value := rest[unix.SizeofRtAttr:length]
		switch kind {
		case unix.NDA_DST:
			addr, _ = netip.AddrFromSlice(value)
		case unix.NDA_LLADDR:
			if len(value) == 6 {
				mac = net.HardwareAddr(value).String()
			}
		}
		rest = rest[min((length+3)&^3, len(rest)):]
	}
	if addr.IsValid() && !addr.IsMulticast() && mac != "" && mac != "00:00:00:00:00:00" {
		add(addr.Unmap(), mac)
	}
}
