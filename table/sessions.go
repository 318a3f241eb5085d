package table

import (
	"cmp"
	"errors"
	"slices"
	"strings"

	"github.com/fairlead-net/fairlead/forward"
)

// A Sessioner is a Carrier that can list and end its sessions. The ids of the kernel's start with "k", those of the relay's
// with "r".
type Sessioner interface {
	Sessions() ([]forward.Session, error)
	Kill(id string) error
}

// Sessions lists the live sessions of the forward of this name, or of all with "", by forward and then by id. When one
// carrier cannot list its own, the other's come with the error.
func (t *Table) Sessions(name string) ([]forward.Session, error) {
	var all []forward.Session
	var errs []error
	for _, carrier := range []Carrier{t.kernel, t.relay} {
		s, ok := carrier.(Sessioner)
		if !ok {
			continue
		}
		list, err := s.Sessions()
		errs = append(errs, err)
		for _, one := range list {
			one.Forward, _, _ = strings.Cut(one.Forward, "/") // of a companion
			if name == "" || one.Forward == name {
				all = append(all, one)
			}
		}
	}
	slices.SortFunc(all, func(a, b forward.Session) int {
		return cmp.Or(strings.Compare(a.Forward, b.Forward), strings.Compare(a.ID, b.ID))
	})
	return all, errors.Join(errs...)
}

// Kill ends one session. The error is the carrier's own, or wraps ErrNotFound when the id is nobody's.
func (t *Table) Kill(id string) error {
	carrier := t.relay
	switch {
	case strings.HasPrefix(id, "k"):
		carrier = t.kernel
	case !strings.HasPrefix(id, "r"):
		return notFound("session", id)
	}
	s, ok := carrier.(Sessioner)
	if !ok {
		return notFound("session", id)
	}
	return s.Kill(id)
}
