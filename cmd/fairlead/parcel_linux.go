package main

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"
)

// A parcel is one descriptor in which others wait: an end of a pair of unix sockets, whose queue holds messages with
// descriptors (SCM_RIGHTS, unix(7)). Nobody has the other end any more. What is not taken out is closed with the parcel.
//
// It is for who keeps descriptors but not many: systemd looks at each that it has for each that it is given.

const (
	maxRights   = 253  // descriptors a message, SCM_MAX_FD
	messageRoom = 2048 // of the send buffer; the kernel counts about 800 bytes for one, and not what it carries
)

// pack makes a parcel of descriptors, which stay open here, too. It never blocks.
func pack(fds []int) (parcel int, err error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("socketpair: %w", err)
	}
	parcel, in := pair[0], pair[1]
	defer unix.Close(in)
	room := (len(fds)/maxRights + 1) * messageRoom
	if unix.SetsockoptInt(in, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, room) != nil {
		_ = unix.SetsockoptInt(in, unix.SOL_SOCKET, unix.SO_SNDBUF, room) // without CAP_NET_ADMIN: as much as others may
	}
	for some := range slices.Chunk(fds, maxRights) {
		if err := unix.Sendmsg(in, []byte{0}, unix.UnixRights(some...), nil, unix.MSG_DONTWAIT); err != nil {
			_ = unix.Close(parcel)
			return -1, fmt.Errorf("sending descriptors: %w", err) // EAGAIN: no room, ETOOMANYREFS: more than RLIMIT_NOFILE on their way
		}
	}
	return parcel, nil
}

// unpack takes everything out of a parcel, in the order of pack. It never blocks. After an error nothing is left open.
func unpack(parcel int) ([]int, error) {
	var fds []int
	rights := make([]byte, unix.CmsgSpace(maxRights*4))
	for {
		n, size, flags, _, err := unix.Recvmsg(parcel, make([]byte, 1), rights, unix.MSG_DONTWAIT|unix.MSG_CMSG_CLOEXEC)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err == nil && n == 0:
			return fds, nil
		case err == nil:
			var some []int
			some, err = received(rights[:size])
			fds = append(fds, some...)
			if err == nil && flags&unix.MSG_CTRUNC != 0 {
				err = unix.EMFILE
			}
		}
		if err != nil {
			closeAll(fds)
			return nil, fmt.Errorf("receiving descriptors: %w", err)
		}
	}
}

// received reads the descriptors of one message.
func received(rights []byte) (fds []int, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for i := range messages {
		some, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			return fds, err
		}
		fds = append(fds, some...)
	}
	return fds, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
