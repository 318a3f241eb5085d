// Package table is the single writer of the daemon: it holds the forwards that everybody asked for, decides who carries
// each and when, hands them to the carriers, tries again what was refused, and says how all of them are doing.
//
// Only the table decides. Carriers report; what is stored was put there by the table. How packets and streams are carried,
// how forwards are written and how they are asked for over a socket do not come in here.
//
// The order at the start matters: New, then ReplaceFile with what the file says, then Run. The first cycle of Run takes
// away from the kernel whatever is not in the table, so forwards that went on while no daemon ran are adopted only if they
// are in it by then.
package table

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/kernel"
	"github.com/fairlead-net/fairlead/store"
)

// A Carrier moves the bytes. It is called by one goroutine at a time, except for Stats, which may be called at any time.
type Carrier interface {
	// Apply makes the carrier carry want and nothing else. It returns an error for each forward that it cannot carry; one that
	// is absent or nil is carried. A forward that is the same pointer as in the last Apply is the same forward, and what want
	// shares with the want of the last Apply need not be looked at (forward.List.Differ). What failed before is tried again.
	Apply(ctx context.Context, want forward.List) map[string]error
	// Stats is what passed by each forward since the carrier took it on. A forward that was left out of an Apply starts
	// again from 0.
	Stats() map[string]forward.Stats
}

// A Loser is a Carrier that notices when somebody else takes away what it has in the system. It is asked every few seconds,
// and has its Apply called again when it says yes.
type Loser interface{ Lost() bool }

// A Clearer is a Carrier that leaves something in the system when it carries nothing. Down calls it last.
type Clearer interface{ Clear() error }

// A Beside is somebody who does what forwards need besides being carried, such as to open a firewall for them. It may be a Loser
// and a Clearer, too.
type Beside interface {
	// Carried is called in each cycle, before the kernel's carrier, with all that this host listens for, each with its
	// carrier. It looks after its failures itself: they are no forward's.
	Carried(ctx context.Context, here forward.List)
}

// Options is what a Table works with. All but Log, Settle and Lease is needed.
type Options struct {
	Kernel, Relay Carrier
	Beside        Beside                       // nil: there is nobody
	Facts         func() (kernel.Facts, error) // an error: nothing was found out, and what was known stands
	Store         store.Store
	Settle        func(config.Settings) // makes the settings of the file hold; it must not wait, nor call the table. nil: there are none
	// Lease is told of each lease that comes (before is nil), changes, or goes (now is nil), in order. It must not wait, nor call
	// the table. nil: nobody wants to know.
	Lease func(now, before *forward.Forward)
	// Note is what else is good to know of a forward that is up, or "". It must not wait, nor call the table. nil: nothing.
	Note func(name string) string
	Log  *slog.Logger // nil: none
}

// The keys of log attributes.
const (
	keyForward = "forward"
	keyOrigin  = "origin"
	keyCarried = "carried"
	keyWhy     = "why"
	keyErr     = "err"
	keyCount   = "count"
	keyUntil   = "until"
)

// A Table is the desired set of forwards and what has become of it. Two locks divide it. Who changes what is desired holds
// writing from the first check to the last store write, and mu only to swap the outcome in, so that a slow disk keeps nobody
// from looking. Who calls the carriers, which is Run alone, holds carrying, and mu only before and after: a slow kernel
// keeps nobody from asking for a change either. Changes that come in meanwhile are carried together by the next cycle.
type Table struct {
	kernel, relay Carrier
	beside        Beside
	probe         func() (kernel.Facts, error)
	store         store.Store
	settle        func(config.Settings)
	note          func(name string) string
	lease         func(now, before *forward.Forward)
	log           *slog.Logger
	counters      *counters

	kick    chan struct{} // capacity 1: a cycle is asked for
	save    chan struct{} // capacity 1: there is something unsaved
	ready   chan struct{}
	stopped chan struct{}

	writing chan struct{} // capacity 1, a lock that can be waited for with a context
	claims  claims        // guarded by writing

	saving sync.Mutex // held while leases are stored

	carrying   sync.Mutex
	companions companions // guarded by carrying

	mu           sync.RWMutex
	phase        phase
	sorted       []*entry          // by name, as of before edits; the slice is replaced and never changed
	edits        map[string]*entry // what is not in sorted yet: see entriesLocked
	byName       map[string]*entry // the entries. Changing them takes writing, too
	shelf        map[shelfKey]shelved
	lists        lists
	touched      map[*entry]bool // entries that the next cycle has to look at
	clocked      map[*entry]bool // entries that time alone can change in other ways than to end them
	expiries     expiries
	operators    *operators                  // nil: to be found anew
	unsaved      map[string]*forward.Forward // leases that the store does not have as they are; nil: does not have to forget yet
	failing      map[*entry]bool             // entries that a carrier has refused
	settings     config.Settings             // of the file
	pending      *pending
	cycle        *cycle // the next one, when somebody waits for it
	cycles       uint64
	facts        kernel.Facts
	bothFamilies map[string]bool // forwards whose other family's clients the relay carries
	lost         bool            // a carrier lost what it had
	relook       bool            // the facts may be others than they were at the last look
	replan       bool            // the facts are other ones than those that the plans were made from
	wake         time.Time       // when the clock or a retry asks for a cycle
	down         bool
	fileCame     bool // a Replace of the file has been
}

// phase is where a Table is in its life.
type phase uint8

const (
	idle phase = iota
	running
	ended
)

// A cycle is one round of handing everything to the carriers.
type cycle struct{ done chan struct{} }

// New returns a Table without forwards that Run has yet to start.
func New(o Options) *Table {
	log := o.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	settle := o.Settle
	if settle == nil {
		settle = func(config.Settings) {}
	}
	note := o.Note
	if note == nil {
		note = func(string) string { return "" }
	}
	lease := o.Lease
	if lease == nil {
		lease = func(_, _ *forward.Forward) {}
	}
	return &Table{
		kernel: o.Kernel, relay: o.Relay, beside: o.Beside, probe: o.Facts, store: o.Store, settle: settle, note: note, lease: lease, log: log, counters: newCounters(),
		kick: make(chan struct{}, 1), save: make(chan struct{}, 1), ready: make(chan struct{}), stopped: make(chan struct{}), writing: make(chan struct{}, 1),
		byName: map[string]*entry{}, edits: map[string]*entry{}, shelf: map[shelfKey]shelved{},
		touched: map[*entry]bool{}, clocked: map[*entry]bool{}, failing: map[*entry]bool{}, unsaved: map[string]*forward.Forward{},
	}
}

// Ready is closed when everything that was in the table at the start of Run has been handed to the carriers once.
func (t *Table) Ready() <-chan struct{} { return t.ready }

// Put adds f, or puts it in the place of the forward of that name and origin. It returns when the carriers have answered,
// with what became of f; a forward that could not be carried is no error but a Status that says so. Before Run there is
// nobody to answer, and the Status is waiting. What the api put is stored before Put returns.
//
// The error is a *ConflictError when the name belongs to another origin, and wraps a *forward.TieError when another forward
// claims the same traffic. When ctx ends first, f stays in the table.
func (t *Table) Put(ctx context.Context, f *forward.Forward) (Status, error) {
	if err := f.Validate(); err != nil {
		return Status{}, err
	}
	if f.Origin != forward.OriginFile && shutOf(f, time.Now()) == expired {
		return Status{}, &forward.FieldError{Field: "expires", Err: fmt.Errorf("%s is over already", f.Expires.Local().Format(time.DateTime))}
	}
	unlock, err := t.lock(ctx)
	if err != nil {
		return Status{}, err
	}
	if err := t.checkNames(f); err != nil {
		unlock()
		return Status{}, err
	}
	e := t.byName[f.Name]
	switch {
	case e == nil:
	case e.f.Origin != f.Origin:
		unlock()
		return Status{}, &ConflictError{Name: f.Name, Owner: e.f.Origin}
	case e.f.Equal(f):
		f = e.f
	}
	c, err := t.commit(change{put: []*forward.Forward{f}})
	unlock()
	if err != nil {
		return Status{}, err
	}
	if err := t.await(ctx, c); err != nil {
		return Status{}, err
	}
	return t.status(f.Name)
}

// checkNames refuses a forward that was asked for by hand and names what the file does not declare. The caller holds writing.
func (t *Table) checkNames(f *forward.Forward) error {
	if f.Origin != forward.OriginAPI {
		return nil
	}
	return errors.Join(config.CheckHubPort(f, t.settings.Hub), config.CheckNodes(f, t.settings), config.CheckUsers(f, t.settings.Users), config.CheckProvider(f, t.settings.OIDC))
}

// Delete removes the forward of this name, and returns when the carriers have let go of it. The error wraps ErrNotFound when
// there is none, and is a *ConflictError for a forward of the file: it would be back at the next apply.
func (t *Table) Delete(ctx context.Context, name string) error {
	unlock, err := t.lock(ctx)
	if err != nil {
		return err
	}
	var ch change
	e, shelved := t.byName[name], t.shelved(name)
	switch {
	case e != nil && e.f.Origin != forward.OriginFile:
		ch.drop = []*entry{e}
	case shelved != nil:
		ch.unshelve = []shelfKey{*shelved}
	case e != nil:
		err = &ConflictError{Name: name, Owner: forward.OriginFile}
	default:
		err = notFound("forward", name)
	}
	var c *cycle
	if err == nil {
		c, err = t.commit(ch)
	}
	unlock()
	if err != nil {
		return err
	}
	if e != nil && e.f.Origin.IsLease() {
		t.log.Info("lease removed; its client may ask again", keyForward, name, keyOrigin, e.f.Origin)
	}
	return t.await(ctx, c)
}

// lock takes writing.
func (t *Table) lock(ctx context.Context) (unlock func(), err error) {
	select {
	case t.writing <- struct{}{}:
	case <-t.stopped:
		return nil, ErrStopped
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case <-t.stopped:
		<-t.writing
		return nil, ErrStopped
	default:
		return func() { <-t.writing }, nil
	}
}

// joinLocked asks for a cycle, and returns it. Before Run there is none, and after it neither. The caller holds mu.
func (t *Table) joinLocked() *cycle {
	if t.phase != running {
		return nil
	}
	if t.cycle == nil {
		t.cycle = &cycle{done: make(chan struct{})}
	}
	nudge(t.kick)
	return t.cycle
}

// nudge leaves a word in a channel that has room for one.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// await waits until the carriers have answered in c.
func (t *Table) await(ctx context.Context, c *cycle) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return nil
	case <-t.stopped:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}
