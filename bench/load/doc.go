// Package load makes and answers traffic for the benchmark. It is written to cost little, since it shares the processors
// with what is measured: a few threads that serve many connections each by epoll, one that does nothing else for each bulk
// stream, all in raw system calls, without the Go scheduler in between, and without garbage to collect. Nothing of Fairlead
// may be imported here.
//
// Datagrams go out and come in many to a system call: in batches (sendmmsg, recvmmsg) or, one way, as one buffer that the kernel
// cuts (UDP_SEGMENT) and joins again (UDP_GRO), so that it is the relay that is measured. Nothing slows a UDP sender down by
// itself, and on few processors one that runs free starves the relay and measures its queues; hence every UDP load is a closed
// loop. There and back, the answer to a datagram lets the next one go. One way, the sink counts in memory that it shares with
// the sender (tally), and the sender keeps a window of datagrams on their way and sleeps while it is full: no acknowledgement
// crosses the network, and what counts is what arrives. A lost datagram keeps its place in the window until nothing has come for
// a while, so that loss costs a relay speed. The windows are larger than what a socket's default receive buffer holds (92
// datagrams of 1,400 bytes in 208 KiB): a relay that is to lose none has to ask for more, as one must in life.
//
// Connections may go through a SOCKS proxy, whose handshake is a part of each. It waits for every answer, as clients do, and so
// costs two turns more.
//
// The benchmark starts itself once more inside a namespace for each side, the server (Serve) and each measurement (Run).
package load

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kind is what a measurement does.
type Kind string

// The kinds of load.
const (
	Connect Kind = "connect" // connect, send Size bytes, have them back, reset; over and over
	Close   Kind = "close"   // the same with an orderly close (FIN) by the client
	Request Kind = "request" // send Size bytes, have them back; over and over on one connection
	Bulk    Kind = "bulk"    // send as fast as it goes
	Fetch   Kind = "fetch"   // receive as fast as it comes
	UDP     Kind = "udp"     // keep InFlight datagrams of Size bytes on their way there and back
	OneWay  Kind = "one-way" // keep InFlight datagrams of Size bytes of each flow on their way to the sink
	Hold    Kind = "hold"    // open Workers connections, use each once, keep them until standard input ends
)

// Where a server listens: its echo port is the base, the others follow.
const (
	BasePort  = 9000
	EchoPort  = BasePort     // TCP: sends back what it gets, and resets when that ends
	SinkPort  = BasePort + 1 // TCP: takes what it gets
	ClosePort = BasePort + 2 // TCP: sends back what it gets, and closes in order when that ends
	HoldPort  = BasePort + 3 // TCP: sends back what it gets, for thousands of connections at once
	UDPPort   = BasePort + 4 // UDP: sends back what it gets
	CountPort = BasePort + 5 // UDP: counts what it gets in the tally
	FetchPort = BasePort + 6 // TCP: sends as fast as it goes
)

// A Spec is a measurement, as JSON on the standard input of the process that makes it.
type Spec struct {
	Kind     Kind
	Targets  []string // IPv4 "address:port"; connection n goes to number n modulo their count
	Socks    string   // of TCP: the SOCKS 5 proxy that is asked for the target, IPv4 "address:port"; "": the target is called itself
	Workers  int      // connections, flows or streams at a time
	Size     int      // bytes a message
	InFlight int      // of UDP and OneWay: datagrams that a flow keeps on their way, of UDP at most 256
	Tally    string   // of OneWay: the file that the server was told to count in
	Warm     time.Duration
	Time     time.Duration // what is counted, after Warm
	Groups   [][]string    // of Connect and Close, instead of Targets: these take turns, as long as Turn each, in another order each round
	Turn     time.Duration // Time is a whole number of rounds of them
}

// turns is how many turns there are, and rounds how often each group has one.
func (s *Spec) turns() int  { return int(s.Time / s.Turn) }
func (s *Spec) rounds() int { return s.turns() / len(s.Groups) }

// group is whose turn it is. Every other round is backwards and every two rounds begin with another group, so that a machine that
// becomes slower or faster does so for all.
func (s *Spec) group(turn int) int {
	n := len(s.Groups)
	round, place := turn/n, turn%n
	if round%2 == 1 {
		place = n - 1 - place
	}
	return (round/2 + place) % n
}

// A Result is what came of it, as one line of JSON on standard output.
type Result struct {
	Count   uint64        // connections, requests, datagrams (those that arrived) or, for Bulk and Fetch, bytes
	All     uint64        // of Bulk and Fetch: the bytes of before and after as well
	Seconds float64       // in which they were counted
	Errors  uint64        // operations that failed, or datagrams that did not come back
	Error   string        // one of them
	P50     time.Duration // of an operation; zero where a single one is not timed
	P99     time.Duration
	Groups  []GroupResult // of Spec.Groups
}

// A GroupResult is what came of one group of targets. An operation counts for the turn in which it began.
type GroupResult struct {
	Counts []uint64 // by round
	P99    time.Duration
	Errors uint64
	Error  string
}

// Rate is the count by the second.
func (r Result) Rate() float64 {
	if r.Seconds == 0 {
		return 0
	}
	return float64(r.Count) / r.Seconds
}

// ParseResult reads what the measuring process wrote.
func ParseResult(line []byte) (Result, error) {
	var r Result
	if err := json.Unmarshal(line, &r); err != nil {
		return r, fmt.Errorf("result of the load: %w (%q)", err, line)
	}
	return r, nil
}
