package kernel

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Probe looks at this host: whether nftables can be used, whether packets are forwarded, and which addresses there are.
// With an error nothing was found out, for want of file descriptors perhaps: the host is as it was.
func Probe() (Facts, error) {
	var f Facts
	var errs [5]error
	f.Routes4, errs[0] = sysctlIsOn("/proc/sys/net/ipv4/ip_forward")
	f.Routes6, errs[1] = sysctlIsOn("/proc/sys/net/ipv6/conf/all/forwarding")
	f.Addrs, errs[2] = hostAddrs()
	f.Default4, errs[3] = defaultInterface("/proc/net/route", func(w []string) string {
		if len(w) > 7 && w[1] == "00000000" && w[7] == "00000000" {
			return w[0]
		}
		return ""
	})
	f.Default6, errs[4] = defaultInterface("/proc/net/ipv6_route", func(w []string) string {
		if len(w) == 10 && strings.Trim(w[0]+w[1], "0") == "" && w[9] != "lo" {
			return w[9]
		}
		return ""
	})
	if err := errors.Join(errs[:]...); err != nil {
		return Facts{}, fmt.Errorf("look at this host: %w", err)
	}
	err := withNetlink(func(s *nlSocket) error {
		_, _, err := getTable(s, DefaultTable)
		return err
	})
	for _, scarce := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS, unix.EAGAIN} {
		if errors.Is(err, scarce) {
			return Facts{}, fmt.Errorf("look at nftables: %w", err)
		}
	}
	f.Unusable = unusable(err)
	return f, nil
}

// unusable turns the answer to a harmless question into why the kernel carrier cannot be used, or "".
func unusable(err error) string {
	switch {
	case err == nil:
		return ""
	case forbidden(err):
		return "no CAP_NET_ADMIN, which changing nftables needs"
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return "this kernel has no nf_tables"
	}
	return "nftables cannot be used: " + err.Error()
}

func forbidden(err error) bool { return errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES) }

// sysctlIsOn reads a switch. One that is not there is off: a system without IPv6 has none of its switches.
func sysctlIsOn(path string) (bool, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && !bytes.HasPrefix(b, []byte("0")), err
}

func hostAddrs() ([]Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []Addr
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			if p, err := netip.ParsePrefix(a.String()); err == nil {
				out = append(out, Addr{Prefix: p, Interface: i.Name})
			}
		}
	}
	return out, nil
}

// defaultInterface is the first interface that pick finds in the lines of a routing table of /proc.
func defaultInterface(path string, pick func(words []string) string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if name := pick(strings.Fields(lines.Text())); name != "" {
			return name, nil
		}
	}
	return "", nil
}
