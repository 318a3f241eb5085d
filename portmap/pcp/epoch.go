package pcp

import "time"

// A Sample is the epoch of a server, and when the client had it, by a clock that nobody sets.
type Sample struct {
	Epoch uint32
	At    time.Duration
}

// Continues reports whether the server of a former response can still have the mappings that it had then. Where it does not, they are
// lost and have to be made again (RFC 6887, section 8.5).
func (now Sample) Continues(before Sample) bool {
	const leeway = 2 // seconds
	if int64(now.Epoch) < int64(before.Epoch)-1 {
		return false
	}
	client := int64((now.At - before.At) / time.Second)
	server := int64(now.Epoch) - int64(before.Epoch)
	return client+leeway >= server-server/16 && server+leeway >= client-client/16
}
