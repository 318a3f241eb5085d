// Package load makes and answers traffic for the benchmark. It is written to cost little, since it shares the processors
// with what is measured: a few threads that serve many connections each by epoll, one that does nothing else for each bulk
// stream, all in raw system calls, without the Go scheduler in between, and without garbage to collect. Nothing of Fairlead
// may be imported here.
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
	Request Kind = "request" // send Size bytes, have them back; over and over on one connection
	Bulk    Kind = "bulk"    // send as fast as it goes
	UDP     Kind = "udp"     // keep InFlight datagrams of Size bytes on their way there and back
	Hold    Kind = "hold"    // open Workers connections, use each once, keep them until standard input ends
)

// Where a server listens: its echo port is the base, the others follow.
const (
	BasePort = 9000
	EchoPort = BasePort     // TCP: sends back what it gets
	SinkPort = BasePort + 1 // TCP: takes what it gets
	HoldPort = BasePort + 2 // TCP: sends back what it gets, for thousands of connections at once
	UDPPort  = BasePort + 3 // UDP: sends back what it gets
)

// A Spec is a measurement, as JSON on the standard input of the process that makes it.
type Spec struct {
	Kind     Kind
	Targets  []string // IPv4 "address:port"; connection n goes to number n modulo their count
	Workers  int      // connections, flows or streams at a time
	Size     int      // bytes a message
	InFlight int      // of UDP: datagrams that a flow keeps on their way, at most 256
	Warm     time.Duration
	Time     time.Duration // what is counted, after Warm
}

// A Result is what came of it, as one line of JSON on standard output.
type Result struct {
	Count   uint64        // connections, requests, datagrams or, for Bulk, bytes
	Seconds float64       // in which they were counted
	Errors  uint64        // operations that failed, or datagrams that did not come back
	Error   string        // one of them
	P50     time.Duration // of an operation; zero where a single one is not timed
	P99     time.Duration
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
