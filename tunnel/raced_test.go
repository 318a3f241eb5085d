//go:build race

package tunnel_test

// raced is that this is built with the race detector, with which everything takes ten times as long.
const raced = true
