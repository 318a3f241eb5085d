package pmpserver

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// limitBuckets is how many clients are told apart. Those that share a bucket share its rate; which do is not to be foretold.
const limitBuckets = 1024

// A limiter is a token bucket for each client, in memory that does not grow. It belongs to one goroutine.
type limiter struct {
	seed    maphash.Seed
	rate    float64 // tokens a second; as many may be saved
	buckets [limitBuckets]struct {
		spent float64 // tokens that are missing
		at    time.Duration
	}
}

func newLimiter(rate int) *limiter { return &limiter{seed: maphash.MakeSeed(), rate: float64(rate)} }

// may takes a token of the client at a time that does not go back. The addresses of one IPv6 network are one client: a host has as many of
// them as it likes.
func (l *limiter) may(client netip.Addr, now time.Duration) bool {
	if client.Is6() {
		const network = 64 // RFC 4291, section 2.5.1: the rest is the host's
		p, _ := client.Prefix(network)
		client = p.Addr()
	}
	b := &l.buckets[maphash.Comparable(l.seed, client)%limitBuckets]
	b.spent = max(0, b.spent-(now-b.at).Seconds()*l.rate)
	b.at = now
	if b.spent+1 > l.rate {
		return false
	}
	b.spent++
	return true
}
