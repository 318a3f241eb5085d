// Package wire is the frames of docs/protocol.md as bytes: what hub and agent say to each other on a lane. It is pure: it neither reads
// nor writes anything, keeps nothing of what it is given, and allocates for text only, after its length was bounded.
package wire
