package load

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// What futex(2) is asked to do; the word is in memory that processes share.
const (
	futexWait = 0
	futexWake = 1
)

// A tally is what the sink has received, in memory that it shares with the sender on the other side of the relay. So the sender
// knows without a single packet that the relay would have to share the processors with. Counts only grow, and wrap around.
type tally struct {
	datagrams atomic.Uint32
	wanted    atomic.Uint32 // the count of datagrams that the sender waits for
	waiting   atomic.Uint32 // 1: the sender sleeps on this word, see futex(2)
	_         uint32
	bytes     atomic.Uint64
}

// openTally maps the tally that a file holds, which is made when there is none.
func openTally(path string) (*tally, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("tally: %w", err)
	}
	defer f.Close()
	size := int(unsafe.Sizeof(tally{}))
	if err := f.Truncate(int64(size)); err != nil {
		return nil, fmt.Errorf("tally: %w", err)
	}
	page, err := unix.Mmap(int(f.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("tally: map %s: %w", path, err)
	}
	return (*tally)(unsafe.Pointer(&page[0])), nil
}

// add counts what has come, and wakes the sender when that is what it waits for.
func (t *tally) add(datagrams uint32, bytes uint64) {
	t.bytes.Add(bytes)
	n := t.datagrams.Add(datagrams)
	if t.waiting.Load() == 1 && int32(n-t.wanted.Load()) >= 0 && t.waiting.CompareAndSwap(1, 0) {
		futex(&t.waiting, futexWake, nil)
	}
}

// wait returns when the count has reached n, or after the time, with the count.
func (t *tally) wait(n uint32, limit time.Duration) uint32 {
	until := time.Now().Add(limit)
	for left := limit; left > 0; left = time.Until(until) {
		t.wanted.Store(n)
		t.waiting.Store(1)
		if int32(t.datagrams.Load()-n) >= 0 {
			break
		}
		timeout := unix.NsecToTimespec(int64(left))
		futex(&t.waiting, futexWait, &timeout)
	}
	t.waiting.Store(0)
	return t.datagrams.Load()
}

// futex sleeps while the word is 1, or wakes one who does. Whoever sleeps looks again afterwards, so that errors do not matter.
func futex(word *atomic.Uint32, op int, timeout *unix.Timespec) {
	_, _, _ = syscall.RawSyscall6(unix.SYS_FUTEX, uintptr(unsafe.Pointer(word)), uintptr(op), 1,
		uintptr(unsafe.Pointer(timeout)), 0, 0)
}
