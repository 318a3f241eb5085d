package kernel

import "sync"

// A Ledger is the changes of nftables that this process has made one after the other. The kernel numbers all changes, whoever makes them
// and in whichever table (its generation), and refuses one that says which number it follows when that is not the last. So who
// knows that there were only changes of this process in between need not ask the kernel whether its table is still as it left it.
// Everybody who shares a Ledger works in one network namespace.
type Ledger struct {
	mu          sync.Mutex
	first, last uint32 // generations; every change from first to last is this process's
}

// made enters a change that followed generation at, and returns the generation that it has made.
func (l *Ledger) made(at uint32) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.last != at {
		l.first = at
	}
	if l.last = at + 1; l.last == 0 { // the kernel never uses 0
		l.last = 1
	}
	return l.last
}

// since is the generation up to which nobody but this process has changed anything since g, as far as is known. 0, which is no
// generation, stays 0.
func (l *Ledger) since(g uint32) uint32 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if g != 0 && g-l.first <= l.last-l.first { // they may wrap
		return l.last
	}
	return g
}
