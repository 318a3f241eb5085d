package kernel

import (
	"errors"
	"log/slog"
	"strings"
)

// CleanStale removes the tables of foreground forwards whose process has ended, and reports how many there were.
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
			c := New(Options{Table: name, Log: log})
			err := errors.Join(c.Clear(), c.Close())
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
	return n, err
}
