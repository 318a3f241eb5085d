package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe looks at this host: whether nftables can be used, whether packets are forwarded, and which addresses there are.
func Probe() Facts {
	f := Facts{
		Routes4: sysctlIsOn("/proc/sys/net/ipv4/ip_forward"),
		Routes6: sysctlIsOn("/proc/sys/net/ipv6/conf/all/forwarding"),
		Addrs:   hostAddrs(),
	}
	f.Default4 = defaultInterface("/proc/net/route", func(w []string) string {
		if len(w) > 7 && w[1] == "00000000" && w[7] == "00000000" {
			return w[0]
		}
		return ""
	})
	f.Default6 = defaultInterface("/proc/net/ipv6_route", func(w []string) string {
		if len(w) == 10 && strings.Trim(w[0]+w[1], "0") == "" && w[9] != "lo" {
			return w[9]
		}
		return ""
	})
	err := withNetlink(func(s *nlSocket) error {
		_, _, err := getTable(s, DefaultTable)
		return err
	})
	f.Unusable = unusable(err)
	return f
}

// unusable turns the answer to a harmless question into why the kernel carrier cannot be used, or "".
func unusable(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		return "no CAP_NET_ADMIN, which changing nftables needs"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return "this kernel has no nf_tables"
	}
	return "nftables cannot be used: " + err.Error()
}

func sysctlIsOn(path string) bool {
	b, err := os.ReadFile(path)
	return err == nil && !bytes.HasPrefix(b, []byte("0"))
}

func hostAddrs() []Addr {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []Addr
	for _, i := range interfaces {
		addrs, err := i.Addrs()
		if err != nil || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, Addr{Prefix: p, Interface: i.Name})
			}
		}
	}
	return out
}

// defaultInterface is the first interface that pick finds in the lines of a routing table of /proc.
func defaultInterface(path string, pick func(words []string) string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if name := pick(strings.Fields(lines.Text())); name != "" {
			return name
		}
	}
	return ""
}
