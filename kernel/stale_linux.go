package kernel

import (
	"errors"
	"log/slog"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// CleanStale removes the tables of foreground forwards whose process has ended, and reports how many there were. Policy
// routing that no table stands for any more goes, too.
func CleanStale(log *slog.Logger) (int, error) {
	n := 0
	err := withNetlink(func(s *nlSocket) error {
		all, err := tables(s)
		if err != nil {
			return err
		}
		for _, name := range all {
			if !strings.HasPrefix(name, foregroundPrefix) {
				continue
			}
			err := clearTable(name, log)
			var taken *TakenError
			if errors.As(err, &taken) {
				continue // in use
			}
			if err != nil {
				return err
			}
			log.Info("removed the table of a forward that was killed", "table", name)
			n++
		}
		return nil
	})
	if err != nil {
		return n, err
	}
	return n, dropOrphans()
}

// clearTable removes a table of either kind that this process may change.
func clearTable(name string, log *slog.Logger) error {
	if base, ok := strings.CutSuffix(name, keepSuffix); ok {
		return NewKeep(Options{Table: base, Log: log}).Release()
	}
	c := New(Options{Table: name, Log: log})
	return errors.Join(c.Clear(), c.Close())
}

// dropOrphans takes the policy routing away where no table is left that needs it: somebody has flushed nftables.
func dropOrphans() error {
	unlock, err := lockKeep()
	if err != nil {
		return err
	}
	defer unlock()
	return withNetlink(func(nft *nlSocket) error {
		all, err := tables(nft)
		if err != nil || slices.ContainsFunc(all, isKeepTable) {
			return err
		}
		route, err := openNetlinkTo(unix.NETLINK_ROUTE)
		if err != nil {
			return err
		}
		return errors.Join(dropKeepRouting(route), route.Close())
	})
}
