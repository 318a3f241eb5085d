package sshconfig

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
)

// A Machine is what the evaluation depends on beside the text. Tests make their own.
type Machine struct {
	User, Home, Hostname string
	UID                  int
	UserFile, SystemFile string // "" are ~/.ssh/config and /etc/ssh/ssh_config
	// ReadFile returns the text of a file, of which the evaluation takes 1 MiB. With strict the file must be one that only
	// its owner can write, who must be the user or root.
	ReadFile func(path string, strict bool) ([]byte, error)
	Glob     func(pattern string) ([]string, error) // sorted
	Getenv   func(string) (string, bool)
	Addrs    func() []netip.Addr // of this machine's interfaces, without loopback
	// Service is the port of a TCP service by its name (getservbyname(3)); nil knows none.
	Service func(name string) (uint16, bool)
}

// ThisMachine is the machine that the program runs on.
func ThisMachine() *Machine {
	m := &Machine{UID: os.Getuid(), ReadFile: readFile, Glob: filepath.Glob, Getenv: os.LookupEnv, Addrs: localAddrs, Service: Service}
	m.Hostname, _ = os.Hostname()
	if u, err := user.Current(); err == nil {
		m.User, m.Home = u.Username, u.HomeDir
	}
	// OpenSSH takes the home of the password file. A user who says another one with HOME means it, and so do containers.
	if home, err := os.UserHomeDir(); err == nil && home != "" {
		m.Home = home
	}
	return m
}

// Service looks a TCP service up in this machine's list, and is the Service of ThisMachine.
func Service(name string) (uint16, bool) {
	port, err := net.LookupPort("tcp", name)
	return uint16(port), err == nil //nolint:gosec // a port
}

func (m *Machine) sshDir() string { return filepath.Join(m.Home, ".ssh") }

const systemDir = "/etc/ssh"

func (m *Machine) userFile() string {
	if m.UserFile != "" {
		return m.UserFile
	}
	return filepath.Join(m.sshDir(), "config")
}

func (m *Machine) systemFile() string {
	if m.SystemFile != "" {
		return m.SystemFile
	}
	return filepath.Join(systemDir, "ssh_config")
}

// port reads a port or the name of a service.
func (m *Machine) port(s string) (uint16, error) {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return uint16(n), nil
	}
	if m.Service != nil && s != "" {
		if port, ok := m.Service(s); ok {
			return port, nil
		}
	}
	return 0, fmt.Errorf("%.40q is no port", s)
}

func readFile(path string, strict bool) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fmt.Errorf("%s is a directory", path)
	}
	if strict && runtime.GOOS != "windows" && (info.Mode().Perm()&0o022 != 0 || !ownedWell(info)) {
		return nil, fmt.Errorf("%s can be written by others; only you may be able to: chmod go-w %s", path, path)
	}
	return io.ReadAll(io.LimitReader(file, maxFile+1))
}

func localAddrs() []netip.Addr {
	list, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for _, a := range list {
		if p, err := netip.ParsePrefix(a.String()); err == nil && !p.Addr().IsLoopback() {
			addrs = append(addrs, p.Addr())
		}
	}
	return addrs
}
