//go:build !race

package relay

// underRace is whether the race detector is on, which makes everything about ten times as slow and as large.
const underRace = false
