// Package tunneltest is links in memory, for tests of what uses sessions: with one lane or many, with datagrams or without, and cut,
// stalled or resumed at will.
package tunneltest
