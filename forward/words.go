package forward

import (
	"cmp"
	"fmt"
	"strings"
	"time"
)

// Origin says who asked for a forward: "file", "api", "cli", later "lease:upnp", "ssh:KEYNAME", "agent:NAME".
type Origin string

// The origins that need no argument.
const (
	OriginFile Origin = "file" // the configuration file
	OriginAPI  Origin = "api"  // added to the running daemon, kept across restarts
	OriginCLI  Origin = "cli"  // "fairlead forward": lives as long as the command
)

// Guest reports whether somebody else than the operator of this host asked: an operator's forward goes before theirs.
func (o Origin) Guest() bool {
	kind, _, named := strings.Cut(string(o), ":")
	return named && (kind == "ssh" || kind == "lease" || kind == "agent")
}

// Carry is what moves the bytes, or the wish for it.
type Carry uint8

// The carriers. CarryAuto leaves the choice to the planner and is never the outcome of a plan.
const (
	CarryAuto Carry = iota
	CarryKernel
	CarryRelay
)

// Source says which address the target sees.
type Source uint8

// The source policies.
const (
	SourceAuto    Source = iota // the client's own wherever replies still find their way back
	SourceKeep                  // always the client's own
	SourceRewrite               // always one of this host
)

// Balance says how one of several targets is picked for a new session.
type Balance uint8

// The ways to balance.
const (
	BalanceFailover   Balance = iota // the first that answers, in the order written
	BalanceRoundRobin                // in turn
	BalanceLeast                     // the one with the fewest open sessions
	BalanceSource                    // by the client's address, so that a client stays with its target
)

var (
	carryWords   = []string{"auto", "kernel", "relay"}
	sourceWords  = []string{"auto", "keep", "rewrite"}
	balanceWords = []string{"failover", "round-robin", "least", "source"}
)

func (c Carry) String() string   { return carryWords[c] }
func (s Source) String() string  { return sourceWords[s] }
func (b Balance) String() string { return balanceWords[b] }

// ParseCarry reads "auto", "kernel" or "relay"; "" is auto.
func ParseCarry(s string) (Carry, error) { return parseWord[Carry](s, carryWords) }

// ParseSource reads "auto", "keep" or "rewrite"; "" is auto.
func ParseSource(s string) (Source, error) { return parseWord[Source](s, sourceWords) }

// ParseBalance reads "failover", "round-robin", "least" or "source"; "" is failover.
func ParseBalance(s string) (Balance, error) { return parseWord[Balance](s, balanceWords) }

func parseWord[T ~uint8](s string, words []string) (T, error) {
	if s == "" {
		return 0, nil
	}
	for i, w := range words {
		if s == w {
			return T(i), nil
		}
	}
	return 0, fmt.Errorf("%q is not known here; write %s", s, strings.Join(words, ", "))
}

// State is how a forward is doing.
type State uint8

// The states, as `fairlead status` shows them.
const (
	StateOff     State = iota // disabled or expired
	StateUp                   // carried
	StateWaiting              // a node is away or a schedule is closed
	StateFailed               // could not be carried; retried
)

func (s State) String() string { return [...]string{"off", "up", "waiting", "failed"}[s] }

// Stats is what has passed through a forward. Totals never go backwards while the forward exists.
type Stats struct {
	Open     int    // sessions open now
	Total    uint64 // sessions ever carried
	Refused  uint64 // clients turned away by a limit, a list or a target that could not be reached
	BytesIn  uint64 // from clients to the target
	BytesOut uint64 // from the target to clients
	Waiting  string // why clients wait: a node is away that the forward needs; ""
	Failing  string // why no session can be carried although the forward listens, or ""
	Note     string // what the operator should know now ("accepting is paused: out of file descriptors"), or ""

	Targets []TargetStats // how each target is doing; none where nothing depends on it
}

// TargetStats is how one of several targets is doing, or one that is checked.
type TargetStats struct {
	Target   string    // as it is written
	State    string    // "unknown", "up", "failing" (tried after the others) or "down" (not tried while another is not)
	Draining bool      // it takes no new sessions
	Open     int       // sessions open now
	Since    time.Time // when it came into the state; zero: not known
	Why      string    // why it is failing or down, or ""
}

// Add returns the sum of s and t; the first note wins, and the first list of targets.
func (s Stats) Add(t Stats) Stats {
	s.Open += t.Open
	s.Total += t.Total
	s.Refused += t.Refused
	s.BytesIn += t.BytesIn
	s.BytesOut += t.BytesOut
	s.Note = cmp.Or(s.Note, t.Note)
	s.Failing, s.Waiting = cmp.Or(s.Failing, t.Failing), cmp.Or(s.Waiting, t.Waiting)
	if s.Targets == nil {
		s.Targets = t.Targets
	}
	return s
}

// A Session is one live connection or UDP flow.
type Session struct {
	ID       string // unique among all live sessions; accepted by kill
	Forward  string // name
	Network  Networks
	Client   string // "ip:port", or "unix" for a client of a unix socket
	Target   string // "ip:port" or "unix:/path"
	Carried  Carry
	Since    time.Time // zero: not known
	BytesIn  uint64
	BytesOut uint64
}
