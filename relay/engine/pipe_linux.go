package engine

import (
	"sync/atomic"

	"golang.org/x/sys/unix"
)

const (
	pipeSize = 1 << 20 // bytes; what an ordinary user may ask for (fs.pipe-max-size)
	maxPipes = 256     // of the process, two descriptors each; streams beyond copy through the buffer
	keepIdle = 4       // pipes that a loop keeps for the next bulk stream
)

// A pipe holds pages on their way from one socket to another (splice(2)). A stream has one only while it moves bulk.
type pipe struct {
	r, w int32
	held int // bytes in it
}

// pipes is a loop's stock of empty ones.
type pipes struct {
	idle []*pipe
	open *atomic.Int32 // of all loops
}

// get returns nil when there are enough already, or no descriptors left.
func (p *pipes) get() *pipe {
	if n := len(p.idle); n > 0 {
		last := p.idle[n-1]
		p.idle = p.idle[:n-1]
		return last
	}
	if p.open.Add(1) > maxPipes {
		p.open.Add(-1)
		return nil
	}
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		p.open.Add(-1)
		return nil
	}
	_, _ = unix.FcntlInt(uintptr(fds[0]), unix.F_SETPIPE_SZ, pipeSize) // refused: the default of 64 KiB does, too
	return &pipe{r: int32(fds[0]), w: int32(fds[1])}
}

// put takes a pipe back. One that is not empty is of no use to anybody else.
func (p *pipes) put(x *pipe) {
	if x.held == 0 && len(p.idle) < keepIdle {
		p.idle = append(p.idle, x)
		return
	}
	p.close(x)
}

func (p *pipes) close(x *pipe) {
	closeFD(x.r)
	closeFD(x.w)
	p.open.Add(-1)
}

func (p *pipes) drop() {
	for _, x := range p.idle {
		p.close(x)
	}
	p.idle = nil
}
