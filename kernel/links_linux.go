package kernel

import (
	"errors"
	"net"
	"slices"

	"golang.org/x/sys/unix"
)

// links is the names of this host's interfaces. To list them costs as much as a change of nftables, so that it is done once, and then
// only after the kernel has said that an interface is another one: its word is there before who changed it goes on.
type links struct {
	fd    int // a socket that the kernel tells of changes; 0: there is none
	names []string
	known bool // names is what there was when the kernel last said something
}

// list is the names, sorted. Where the kernel cannot tell of changes they are listed each time. It is about the network namespace of the
// thread that first called it.
func (l *links) list() (names []string, err error) {
	if l.fd == 0 {
		if err := l.open(); err != nil {
			return hostInterfaces()
		}
	}
	changed, err := l.changed()
	if err != nil {
		l.Close()
		return hostInterfaces()
	}
	if changed || !l.known {
		l.names, err = hostInterfaces()
		l.known = err == nil
	}
	return l.names, err
}

func (l *links) open() error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_LINK}); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	l.fd, l.known = fd, false
	return nil
}

// changed reads all that the kernel has said since it was last called. What exactly does not matter, nor does it that something was lost.
func (l *links) changed() (changed bool, err error) {
	var buf [64]byte // the rest of a message is dropped
	for {
		switch _, _, err := unix.Recvfrom(l.fd, buf[:], 0); {
		case err == nil, errors.Is(err, unix.ENOBUFS):
			changed = true
		case errors.Is(err, unix.EAGAIN):
			return changed, nil
		case !errors.Is(err, unix.EINTR):
			return true, err
		}
	}
}

// Close ends that the kernel tells of changes.
func (l *links) Close() {
	if l.fd != 0 {
		_ = unix.Close(l.fd) // nothing was written
	}
	*l = links{}
}

func hostInterfaces() ([]string, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, i := range all {
		out = append(out, i.Name)
	}
	slices.Sort(out)
	return out, nil
}
