package processors

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	briefTime = 50 * time.Millisecond // that somebody counts as being in a hurry after Brief
	spare     = 8                     // processors of the scheduler, while some are in a hurry and others move a lot
)

var (
	began     = time.Now()
	lastBrief atomic.Int64 // nanoseconds since began; 0: never
	makeSpare sync.Once
)

// Brief says that something small has been moved, for somebody who waits for it.
func Brief() { lastBrief.Store(int64(time.Since(began))) }

// Yield is called by who has just moved a lot and has more, and never waits for anything. It lets the others of the program run,
// and, while any of them are in a hurry, what else there is on this machine: what is brief needs several programs in turn, and each would wait for the
// whole time slice (milliseconds) of a thread that moves a lot. It costs those who do a part of their speed, so it is not done for nothing.
func Yield() {
	if last := lastBrief.Load(); last != 0 && time.Since(began)-time.Duration(last) < briefTime {
		makeSpare.Do(func() { Extra(spare) }) // a thread that lets go keeps its processor of the scheduler
		yieldThread()
	}
	runtime.Gosched()
}
