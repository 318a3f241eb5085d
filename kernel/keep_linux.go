package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A Keep has packets that are sent to a client's address delivered to the socket of this host that has taken it on
// (IP_TRANSPARENT). Its methods may be called from anywhere; they work in the network namespace of the calling thread.
//
// It consists of an nftables table of this process's own, and of policy rules and routes that all processes share: they
// come with the first and go with the last. Like the carrier's table they stay when the process ends, are adopted by the
// next one, and go with Release.
type Keep struct {
	table string
	log   *slog.Logger

	mu    sync.Mutex
	claim net.Listener // the right to change the table; nil: not taken
}

// NewKeep returns a Keep that has not looked at the kernel yet. Options are those of the carrier beside which it works.
func NewKeep(o Options) *Keep {
	c := New(o)
	return &Keep{table: c.table + keepSuffix, log: c.log}
}

// Acquire sets everything up, or what is missing of it. Where nothing is, it only looks.
func (k *Keep) Acquire() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return explain(k.exclusively(func(nft, route *nlSocket) error {
		made, err := k.ensureTable(nft)
		if err != nil {
			return err
		}
		added, err := addKeepRouting(route)
		if made || added {
			k.log.Debug("answers to clients' addresses are delivered here", "table", k.table, "routes", KeepRoutes)
		}
		return err
	}))
}

// Release takes everything away, what an earlier process left included; the routes only where nobody else needs them. Who
// may not set it up has nothing to take away.
func (k *Keep) Release() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	err := k.exclusively(func(nft, route *nlSocket) error {
		all, err := tables(nft)
		if err != nil {
			return err
		}
		others := func(name string) bool { return isKeepTable(name) && name != k.table }
		if !slices.ContainsFunc(all, others) {
			if err := dropKeepRouting(route); err != nil {
				return err
			}
		}
		if !slices.Contains(all, k.table) {
			return nil
		}
		b := newBatch(k.table)
		b.deleteTable()
		return b.commit(nft)
	})
	if forbidden(err) {
		err = nil
	}
	return errors.Join(explain(err), k.unclaim())
}

// Close gives back what is held in this process. What is in the kernel stays.
func (k *Keep) Close() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.unclaim()
}

func (k *Keep) unclaim() error {
	if k.claim == nil {
		return nil
	}
	err := k.claim.Close()
	k.claim = nil
	return err
}

// exclusively runs fn while no other process changes what is shared. The table becomes this process's.
func (k *Keep) exclusively(fn func(nft, route *nlSocket) error) error {
	if k.claim == nil {
		var err error
		if k.claim, err = claim(k.table); err != nil {
			return err
		}
	}
	unlock, err := lockKeep()
	if err != nil {
		return err
	}
	defer unlock()
	return withNetlink(func(nft *nlSocket) error {
		route, err := openNetlinkTo(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		return errors.Join(fn(nft, route), route.Close())
	})
}

// lockKeep waits until no other process changes what is shared. They take milliseconds.
func lockKeep() (unlock func(), err error) {
	const patience, pause = 5 * time.Second, 5 * time.Millisecond
	for deadline := time.Now().Add(patience); ; time.Sleep(pause) {
		held, err := claim(keepLock)
		var taken *TakenError
		switch {
		case errors.As(err, &taken) && time.Now().Before(deadline):
			continue
		case err != nil:
			return nil, fmt.Errorf("wait to change policy routing: %w", err)
		case held == nil: // an ordinary user has taken the name: not to be believed
			return func() {}, nil
		}
		return func() { _ = held.Close() }, nil
	}
}

// ensureTable makes the table, unless it is there as it should be.
func (k *Keep) ensureTable(nft *nlSocket) (made bool, err error) {
	handle, layout, err := getTable(nft, k.table)
	if err != nil {
		return false, err
	}
	wanted := keepChain()
	if handle != 0 && layout == keepLayout {
		if n, err := countRulesOf(nft, k.table); err != nil || n == len(wanted.rules) {
			return false, err
		}
	}
	b := newBatch(k.table)
	if handle != 0 {
		b.deleteTable()
	}
	b.addTableCalled(keepLayout)
	b.addChain(wanted)
	b.addRules(wanted)
	if err := b.commit(nft); errors.Is(err, unix.ENOENT) {
		return false, fmt.Errorf("%w: this kernel lacks nft_socket", err)
	} else if err != nil {
		return false, err
	}
	return true, nil
}
