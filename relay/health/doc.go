// Package health says whether a target is well: the states of one target, how it is asked, and how long it is left alone.
//
// Nothing here knows sessions, listeners or how targets are balanced, and nothing here waits or has a clock: whoever keeps a
// Record tells it what was heard and when, and asks it when to listen again.
package health
