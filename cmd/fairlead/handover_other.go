//go:build !linux

package main

import (
	"errors"

	"github.com/fairlead-net/fairlead/relay"
)

// inherited would be what an earlier program left; only Linux hands anything over.
func inherited() (*relay.Handover, error) { return nil, nil }

func (successor) become(*relay.Handover) error { return errors.ErrUnsupported }
