// Package processors keeps count of the processors that the Go scheduler may use, where parts of the program ask for more of them
// than the machine has.
package processors

import (
	"runtime"
	"sync"
)

var (
	mu    sync.Mutex
	own   = runtime.GOMAXPROCS(0)
	extra int
)

// Count is how many goroutines may run at once, those in Extra not counted: the number of processors, or what GOMAXPROCS, a
// container or an affinity leaves of them.
func Count() int { return own }

// Extra raises GOMAXPROCS by n, for goroutines that wait in system calls which the scheduler does not know of; a negative n
// gives them back.
func Extra(n int) {
	mu.Lock()
	defer mu.Unlock()
	extra += n
	runtime.GOMAXPROCS(own + extra)
}
