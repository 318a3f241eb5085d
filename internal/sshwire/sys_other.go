//go:build !linux

package sshwire

import (
	"fmt"
	"runtime"
	"syscall"
	"time"
)

// supported: the loop is epoll(7), which other systems do not have. Nothing below is ever called.
func supported() error { return fmt.Errorf("%w on %s", ErrUnsupported, runtime.GOOS) }

const (
	evIn = 1 << iota
	evOut
	evUrgent
	evError
	evHangup
	evEnd
)

const (
	errnoAgain   = syscall.EAGAIN
	errnoTimeout = syscall.ETIMEDOUT
	errnoAborted = syscall.ECONNABORTED
	errnoNone    = syscall.ENOSYS
)

type event struct {
	Events  uint32
	Fd, Pad int32
}

type iovec struct{}

func sysRead(int32, []byte) (int, syscall.Errno)       { return 0, errnoNone }
func sysWrite(int32, []byte) (int, syscall.Errno)      { return 0, errnoNone }
func setIovec(*iovec, []byte)                          {}
func sysReadv(int32, []iovec) (int, syscall.Errno)     { return 0, errnoNone }
func sysWritev(int32, []iovec) (int, syscall.Errno)    { return 0, errnoNone }
func sysAccept(int32) (int32, syscall.Errno)           { return -1, errnoNone }
func sysClose(int32)                                   {}
func sysShutdownWrite(int32)                           {}
func sysReset(int32)                                   {}
func sysSocketError(int32) syscall.Errno               { return errnoNone }
func sysIsUnix(int32) bool                             { return false }
func sysUnsent(int32) int                              { return 0 }
func sysUnread(int32) int                              { return 0 }
func sysRoundTrip(int32) time.Duration                 { return 0 }
func sysTake(Socket) (int32, error)                    { return -1, supported() }
func sysEpoll() (epoll, bell int32, err error)         { return -1, -1, supported() }
func sysRing(int32)                                    {}
func sysWatch(epoll, fd, slot, generation int32) error { return supported() }
func sysUnwatch(epoll, fd int32)                       {}
func sysPoll(int32, []event) int                       { return 0 }
func sysSleep(int32, []event, int) int                 { return 0 }
