package table

import (
	"errors"
	"fmt"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

var (
	// ErrNotFound is wrapped where no forward has the name, or no carrier the session.
	ErrNotFound = errors.New("not found")
	// ErrStopped says that the table's Run has ended; nothing was changed, or it is not known what the carriers made of it.
	ErrStopped = errors.New("the daemon is stopping")
	// ErrNothingPending is what Confirm returns when no apply waits for it.
	ErrNothingPending = errors.New("no apply waits to be confirmed")

	errRunning = errors.New("the table runs already")
)

// A ConflictError says that a forward belongs to another origin than the one that wants to change it.
type ConflictError struct {
	Name  string
	Owner forward.Origin
}

func (e *ConflictError) Error() string {
	if e.Owner == forward.OriginFile {
		return fmt.Sprintf("forward %q belongs to the configuration file", e.Name)
	}
	return fmt.Sprintf("there is a forward %q already, and it belongs to %q", e.Name, string(e.Owner))
}

// Advice is what to do about e.
func (e *ConflictError) Advice() string {
	switch e.Owner {
	case forward.OriginFile:
		return "choose another name, or change the file and run `fairlead apply`"
	case forward.OriginAPI:
		return "it was added to the running daemon: choose another name, or remove it with `fairlead rm " + e.Name + "`"
	}
	return "choose another name"
}

// A PendingError says that an apply waits to be confirmed, and that nothing else can be applied before.
type PendingError struct{ Until time.Time }

func (e *PendingError) Error() string {
	return "an apply waits to be confirmed until " + e.Until.Format(time.TimeOnly)
}

// Advice is what to do about e.
func (e *PendingError) Advice() string {
	return "run `fairlead confirm` to keep it, or wait until it is taken back"
}

// A unixTie is two forwards on one unix socket, which tells no clients apart. It unwraps to the TieError that it is.
type unixTie struct {
	*forward.TieError
	path string
}

func (e unixTie) Error() string {
	return fmt.Sprintf("forwards %q and %q both listen on unix:%s", e.Other, e.Name, e.path)
}

func (e unixTie) Unwrap() error { return e.TieError }
