package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
)

// A Carrier keeps one nftables table in step with a list of forwards. Its methods may be called from anywhere; they work
// in the network namespace of the calling thread, one at a time.
type Carrier struct {
	table string
	log   *slog.Logger

	mu         sync.Mutex
	claim      net.Listener // the right to change the table, once it was needed
	socket     keptSocket
	failed     bool   // the last Apply was refused as a whole
	generation uint32 // of nftables when the table was as the carrier left it; 0: it may not be
	ledger     *Ledger
	former     map[string][]*forward.Forward // what forwards led to before: their TCP sessions finish there
	known      bool                          // the fields below are what the kernel has; else it must be read first
	handle     uint64                        // of the table; 0: there is none
	names      nameKeepers
	carried    forward.List        // those that only hold their place included
	carries    int                 // of carried, those that do not
	elements   map[setID]int       // how many elements each set has
	index      forward.Index       // of carried
	interfaces []string            // elements of the set of interfaces
	links      links               // what there is for it
	lateLeases lateLeases          // the same for leases, in both ways
	late       late                // forwards whose stale sessions are to be ended
	purges     sync.WaitGroup      // the goroutine that does, if there is one
	closing    chan struct{}       // closed by Close
	close      func()              // closes closing
	counted    map[string]*reading // the last reading, for a table that somebody else removed
}

// A reading is what the counters of one forward said, by what they count.
type reading [countClasses]counter

// Options says what a Carrier works on.
type Options struct {
	Table  string       // name of its nftables table (family inet); "" is DefaultTable
	Ledger *Ledger      // shared with others of this process that change nftables; nil: with nobody
	Log    *slog.Logger // nil: nothing is logged
}

// New returns a carrier that has not looked at the kernel yet.
func New(o Options) *Carrier {
	closing := make(chan struct{})
	c := &Carrier{
		table: o.Table, ledger: o.Ledger, log: o.Log, elements: map[setID]int{},
		closing: closing, close: sync.OnceFunc(func() { close(closing) }),
	}
	if c.table == "" {
		c.table = DefaultTable
	}
	if c.ledger == nil {
		c.ledger = new(Ledger)
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Apply makes the kernel carry want. Forwards with CarryRelay only hold their place, so that a
// broader forward here does not take their clients. What already is as wanted is not touched: neither its elements nor
// its counters nor its sessions. The result has an entry for each forward that could not be carried.
//
// A table that an earlier process left is adopted: only what differs is changed.
func (c *Carrier) Apply(ctx context.Context, want forward.List) map[string]error {
	c.mu.Lock()
	defer c.mu.Unlock()
	want = c.names.fold(want)
	bad := map[string]error{}
	removed, added := c.carried.Differ(want)
	unfit := map[string]*forward.Forward{}
	added = slices.DeleteFunc(added, func(f *forward.Forward) bool {
		err := checkCarriable(f)
		if err != nil {
			bad[f.Name], unfit[f.Name] = err, nil
		}
		return err != nil
	})
	want = want.Edit(unfit)
	if c.carries+carriedOf(added)-carriedOf(removed) == 0 && !(c.known && c.handle != 0 && onlyLeases(c.carried.Slice())) {
		want = forward.List{} // nothing to carry: no need for a table, let alone for places held in it
	}
	err := c.withSocket(func(s *nlSocket) error { return c.apply(ctx, s, want, bad) })
	if want.Len() == 0 && c.handle == 0 && forbidden(err) {
		err = nil // who may not make a table has none to remove
	}
	if c.failed = err != nil; c.failed {
		c.known = false
		c.log.Error("nftables cannot be changed", "table", c.table, "error", explain(err))
		for f := range want.All() {
			if f.Carry == forward.CarryKernel {
				bad[f.Name] = explain(err)
			}
		}
	}
	return bad
}

// carriedOf is how many of list the kernel is to carry, and not only to keep their places.
func carriedOf(list []*forward.Forward) (n int) {
	for _, f := range list {
		if f.Carry == forward.CarryKernel {
			n++
		}
	}
	return n
}

func (c *Carrier) withSocket(fn func(*nlSocket) error) error { return c.socket.with(fn) }

// Close gives back what the carrier holds in this process. What it has in the kernel stays.
func (c *Carrier) Close() error {
	c.close()
	c.purges.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.links.Close()
	errs := []error{c.socket.Close()}
	if c.lateLeases.socket != nil {
		errs = append(errs, c.lateLeases.socket.Close())
		c.lateLeases.socket = nil
	}
	if c.claim != nil {
		errs = append(errs, c.claim.Close())
		c.claim = nil
	}
	return errors.Join(errs...)
}

// apply does the work of Apply. What cannot be carried for reasons of its own goes to bad; the error is everybody's.
func (c *Carrier) apply(ctx context.Context, s *nlSocket, want forward.List, bad map[string]error) error {
	change, err := c.difference(s, want)
	if err != nil {
		return err
	}
	if change.touches() && c.claim == nil {
		if c.claim, err = claim(c.table); err != nil {
			return err
		}
		if c.claim == nil {
			c.log.Warn("a program that may not change nftables has taken the name that guards the table", "table", c.table)
		}
	}
	for change.touches() {
		culprit, err := c.commit(s, change)
		if err == nil {
			break
		}
		if errors.Is(err, unix.ERESTART) && change.at != 0 {
			change.at, c.generation = 0, 0
			there, err := c.isThere(s)
			if err == nil && !there {
				change, err = c.differenceFromKernel(s, want)
			}
			if err != nil {
				return err
			}
			continue
		}
		if errors.Is(err, unix.ENFILE) && !change.fresh {
			if change, err = c.enlarge(s, change); err != nil {
				return err
			}
			continue
		}
		if culprit == "" || ctx.Err() != nil {
			return err
		}
		bad[culprit] = explain(err)
		want = want.Edit(map[string]*forward.Forward{culprit: nil})
		c.known = false // a refused transaction changed nothing, but make sure
		if change, err = c.difference(s, want); err != nil {
			return err
		}
	}
	looked := !c.known || change.fresh
	if err := c.settle(s, change, want); err != nil {
		return err
	}
	if looked {
		if c.generation, err = generation(s); err != nil {
			return err
		}
	}
	c.purge(s, change)
	c.remember(change)
	if change.fresh {
		enableAccounting(c.log)
	}
	return nil
}

// commit sends one transaction. Where the kernel refuses it for the sake of one forward, the forward is named.
func (c *Carrier) commit(s *nlSocket, ch *change) (culprit string, err error) {
	begin := time.Now()
	b := c.transaction(ch, chunk)
	err = b.commit(s)
	if err == nil {
		c.made(ch)
		c.log.Debug("nftables changed", "table", c.table, "added", len(ch.add), "deleted", len(ch.del),
			"bytes", len(b.buf), "took", time.Since(begin))
		return "", nil
	}
	var refused *KernelError
	if !errors.As(err, &refused) || len(ch.add) == 0 || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ERESTART) {
		return "", err
	}
	// Once more with a message for each element: then the number of the refused message leads to the forward.
	b = c.transaction(ch, 1)
	if err = b.commit(s); err == nil {
		c.made(ch)
		return "", nil
	}
	if errors.As(err, &refused) {
		culprit = b.owners[refused.seq]
		if o, ok := b.helpers[refused.seq]; ok && errors.Is(err, unix.ENOENT) {
			err = &HelperError{o.helper, o.network, err}
		}
	}
	return culprit, err
}

// made notes that nobody else has changed anything between the last look at nftables and ch.
func (c *Carrier) made(ch *change) {
	if ch.at != 0 {
		c.generation = c.ledger.made(ch.at)
	}
}

// settle remembers what the kernel has now.
func (c *Carrier) settle(s *nlSocket, ch *change, want forward.List) error {
	if ch.touches() || !c.known {
		if ch.fresh || !c.known {
			handle, _, err := getTable(s, c.table)
			if err != nil {
				return err
			}
			c.handle = handle
		}
		if ch.dropTable && !ch.fresh {
			c.handle, ch.counts, ch.interfaces = 0, map[setID]int{}, nil
		}
		c.elements, c.interfaces = ch.counts, ch.interfaces
	}
	if !c.known {
		c.index = forward.Index{}
		for f := range want.All() {
			if err := c.index.Add(f); err != nil {
				return err
			}
		}
	} else {
		for _, f := range ch.removed {
			c.index.Remove(f)
		}
		for _, f := range ch.added {
			if err := c.index.Add(f); err != nil {
				return err
			}
		}
	}
	removed, added := c.carried.Differ(want)
	c.carries += carriedOf(added) - carriedOf(removed)
	c.carried, c.known = want, true
	return nil
}

// Clear removes the table, its sessions' entries included.
func (c *Carrier) Clear() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.known = false // what lingers goes, too
	err := c.withSocket(func(s *nlSocket) error { return c.apply(context.Background(), s, forward.List{}, nil) })
	if err != nil {
		c.known = false
		return explain(err)
	}
	return nil
}

// explain adds to a refusal of the kernel what a user can do about it.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: changing nftables needs CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: this kernel lacks a part of nf_tables that the forward needs", err)
	case errors.Is(err, unix.ENOBUFS), errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("%w: the kernel is out of memory for nftables", err)
	}
	return err
}
