package main

import (
	"os"
	"runtime/debug"
)

// startGC is the GOGC of a daemon that starts. What it allocates then mostly stays: with 60,000 forwards, collecting as often
// as later takes a fifth of the time until all are up.
const startGC = 300

// collectLess has the garbage collector run seldom until the function that it returns is called. Who has set GOGC knows best.
func collectLess() (asBefore func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	before := debug.SetGCPercent(startGC)
	return func() { debug.SetGCPercent(before) }
}
