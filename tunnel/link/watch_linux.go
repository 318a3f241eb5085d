package link

import (
	"context"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// watch tells when this host's addresses, routes or interfaces have changed (rtnetlink(7)). Its goroutine is of wait, and ends with ctx. Where
// the kernel does not tell, nobody does.
func watch(ctx context.Context, wait *sync.WaitGroup, in func(func() error) error) <-chan struct{} {
	fd := -1
	err := in(func() (err error) {
		fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
		return err
	})
	if err != nil {
		return nil
	}
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR | unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil
	}
	f := os.NewFile(uintptr(fd), "rtnetlink")
	changed := make(chan struct{}, 1)
	stop := context.AfterFunc(ctx, func() { f.Close() })
	wait.Go(func() {
		defer stop()
		defer f.Close()
		buf := make([]byte, 32<<10) // what does not fit is cut off: that there was something is all that matters
		for {
			if _, err := f.Read(buf); err != nil {
				if pathless(err) == unix.ENOBUFS {
					continue
				}
				return
			}
			select {
			case changed <- struct{}{}:
			default:
			}
		}
	})
	return changed
}
