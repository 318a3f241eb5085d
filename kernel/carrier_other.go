//go:build !linux

package kernel

import (
	"context"
	"errors"
	"log/slog"

	"github.com/fairlead-net/fairlead/forward"
)

// errNoLinux is why nothing is carried by the kernel here.
var errNoLinux = errors.New("the kernel carrier needs Linux")

// ErrNoSession says that no session has the ID.
var ErrNoSession = errors.New("no such session")

// Options says what a Carrier works on. On this system there is nothing.
type Options struct {
	Table  string
	Ledger *Ledger
	Log    *slog.Logger
}

// A Carrier on this system refuses every forward.
type Carrier struct{}

// New returns a carrier that refuses every forward.
func New(Options) *Carrier { return &Carrier{} }

// Apply refuses every forward that it shall carry.
func (*Carrier) Apply(_ context.Context, want forward.List) map[string]error {
	bad := map[string]error{}
	for f := range want.All() {
		if f.Carry == forward.CarryKernel {
			bad[f.Name] = errNoLinux
		}
	}
	return bad
}

// Stats has nothing to count.
func (*Carrier) Stats() map[string]forward.Stats { return nil }

// Sessions has nothing to list.
func (*Carrier) Sessions() ([]forward.Session, error) { return nil, nil }

// Kill finds no session.
func (*Carrier) Kill(string) error { return ErrNoSession }

// Clear has nothing to remove.
func (*Carrier) Clear() error { return nil }

// Close has nothing to give back.
func (*Carrier) Close() error { return nil }

// Probe reports that the kernel carrier cannot be used.
func Probe() (Facts, error) { return Facts{Unusable: errNoLinux.Error()}, nil }

// ForegroundTable is empty: there are no tables.
func ForegroundTable() string { return "" }

// CleanStale has nothing to clean.
func CleanStale(*slog.Logger) (int, error) { return 0, nil }

// A Keep on this system refuses.
type Keep struct{}

// NewKeep returns a Keep that refuses.
func NewKeep(Options) *Keep { return &Keep{} }

// Acquire refuses.
func (*Keep) Acquire() error {
	return errors.New("keeping the client's address needs Linux (IP_TRANSPARENT)")
}

// Release has nothing to take away.
func (*Keep) Release() error { return nil }

// Close has nothing to give back.
func (*Keep) Close() error { return nil }
