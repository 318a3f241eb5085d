package publish

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxTable bounds what is read of a routing table: the default routes come first in it.
const maxTable = 1 << 20

// systemRoutes reads the default routes of the main tables, proc_pid_net(5).
func systemRoutes() ([]Route, error) {
	var routes []Route
	v4, err := os.Open("/proc/thread-self/net/route")
	if err != nil {
		return nil, err
	}
	defer v4.Close()
	for line := range fieldsOf(v4) {
		if r, ok := parseRoute4(line); ok {
			routes = append(routes, r)
		}
	}
	v6, err := os.Open("/proc/thread-self/net/ipv6_route")
	if errors.Is(err, os.ErrNotExist) {
		return routes, nil // a kernel without IPv6
	}
	if err != nil {
		return routes, err
	}
	defer v6.Close()
	for line := range fieldsOf(v6) {
		if r, ok := parseRoute6(line); ok {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

func fieldsOf(r io.Reader) func(yield func([]string) bool) {
	return func(yield func([]string) bool) {
		lines := bufio.NewScanner(io.LimitReader(r, maxTable))
		for lines.Scan() {
			if !yield(strings.Fields(lines.Text())) {
				return
			}
		}
	}
}

// parseRoute4 reads "eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0": interface, destination, gateway, flags, -, -, metric, mask.
func parseRoute4(f []string) (Route, bool) {
	if len(f) < 8 || f[1] != "00000000" || f[7] != "00000000" {
		return Route{}, false
	}
	flags, err := strconv.ParseUint(f[3], 16, 32)
	if err != nil || flags&unix.RTF_UP == 0 || flags&unix.RTF_REJECT != 0 {
		return Route{}, false
	}
	gw, err := hex.DecodeString(f[2])
	if err != nil || len(gw) != 4 {
		return Route{}, false
	}
	metric, err := strconv.Atoi(f[6])
	if err != nil {
		return Route{}, false
	}
	r := Route{Interface: f[0], Metric: metric, Gateway: netip.AddrFrom4([4]byte(hostOrder(gw)))}
	return r, !r.Gateway.IsUnspecified() // without one the other end is whoever is there
}

// hostOrder turns what the kernel printed as a number of this machine's order into network order.
func hostOrder(b []byte) []byte {
	return binary.NativeEndian.AppendUint32(nil, binary.BigEndian.Uint32(b))
}

// parseRoute6 reads "0…0 00 0…0 00 fe80…01 00000400 … flags eth0": destination, length, source, length, next hop, metric, -, -, flags.
func parseRoute6(f []string) (Route, bool) {
	if len(f) < 10 || f[1] != "00" || strings.Trim(f[0], "0") != "" {
		return Route{}, false
	}
	flags, err := strconv.ParseUint(f[8], 16, 32)
	if err != nil || flags&unix.RTF_UP == 0 || flags&unix.RTF_REJECT != 0 || flags&unix.RTF_GATEWAY == 0 {
		return Route{}, false
	}
	gw, err := hex.DecodeString(f[4])
	if err != nil || len(gw) != 16 {
		return Route{}, false
	}
	metric, err := strconv.ParseUint(f[5], 16, 31)
	if err != nil {
		return Route{}, false
	}
	r := Route{Interface: f[9], Metric: int(metric), Gateway: netip.AddrFrom16([16]byte(gw))}
	if r.Gateway.IsLinkLocalUnicast() {
		r.Gateway = r.Gateway.WithZone(r.Interface)
	}
	return r, true
}

// temporaryAddresses is the IPv6 addresses that are temporary or deprecated.
func temporaryAddresses() map[netip.Addr]bool {
	file, err := os.Open("/proc/thread-self/net/if_inet6")
	if err != nil {
		return nil
	}
	defer file.Close()
	list := map[netip.Addr]bool{}
	for f := range fieldsOf(file) { // address, index, length, scope, flags, interface
		if len(f) < 6 {
			continue
		}
		flags, err := strconv.ParseUint(f[4], 16, 32)
		raw, addrErr := hex.DecodeString(f[0])
		if err == nil && addrErr == nil && len(raw) == 16 && flags&(unix.IFA_F_TEMPORARY|unix.IFA_F_DEPRECATED|unix.IFA_F_TENTATIVE) != 0 {
			list[netip.AddrFrom16([16]byte(raw))] = true
		}
	}
	return list
}

// multicastBy needs to do nothing: the address that the socket is bound to decides the interface.
func multicastBy(*net.UDPConn, Address) {}

// anycast is where PCP servers on the way are reached (RFC 7723). Nothing sent by hop gets so far.
var anycast = netip.MustParseAddr("192.0.0.9")

// hopTime is how long a router has to say that a packet went too far. They limit how often they do.
const hopTime = 500 * time.Millisecond

// Hop has a datagram end its life at the router that it asks for, which says so by ICMP.
func (System) Hop(ctx context.Context, from netip.Addr, n int) (netip.Addr, error) {
	if !from.Is4() {
		return netip.Addr{}, errors.New("only hops of IPv4 are looked for")
	}
	conn, err := net.DialUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(anycast, portPMP)))
	if err != nil {
		return netip.Addr{}, err
	}
	defer conn.Close()
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.Addr{}, err
	}
	var setErr error
	err = raw.Control(func(fd uintptr) {
		setErr = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, n), unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVERR, 1))
	})
	if err := errors.Join(err, setErr); err != nil {
		return netip.Addr{}, err
	}
	for range 2 {
		if _, err := conn.Write([]byte{0, 0}); err != nil { // of which a PCP server would make nothing either
			continue // an error of the packet before
		}
		for end := time.Now().Add(hopTime); time.Now().Before(end); {
			if addr, ok := offender(raw); ok {
				return addr, nil
			}
			select {
			case <-time.After(10 * time.Millisecond):
			case <-ctx.Done():
				return netip.Addr{}, ctx.Err()
			}
		}
	}
	return netip.Addr{}, fmt.Errorf("the router at hop %d does not say who it is", n)
}

// offender reads the error queue of a socket: ip(7), IP_RECVERR.
func offender(raw interface{ Control(func(uintptr)) error }) (netip.Addr, bool) {
	var found netip.Addr
	_ = raw.Control(func(fd uintptr) {
		var oob [512]byte
		_, n, _, _, err := unix.Recvmsg(int(fd), nil, oob[:], unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
		if err != nil {
			return
		}
		messages, err := unix.ParseSocketControlMessage(oob[:n])
		if err != nil {
			return
		}
		for _, m := range messages {
			const icmpTimeExceeded = 11 // RFC 792
			size := int(unsafe.Sizeof(unix.SockExtendedErr{}))
			if m.Header.Level != unix.IPPROTO_IP || m.Header.Type != unix.IP_RECVERR || len(m.Data) < size+8 {
				continue
			}
			e := (*unix.SockExtendedErr)(unsafe.Pointer(&m.Data[0]))
			// The address of who said so follows, as a sockaddr_in.
			if e.Origin == unix.SO_EE_ORIGIN_ICMP && e.Type == icmpTimeExceeded && binary.NativeEndian.Uint16(m.Data[size:]) == unix.AF_INET {
				found = netip.AddrFrom4([4]byte(m.Data[size+4 : size+8]))
			}
		}
	})
	return found, found.IsValid()
}
