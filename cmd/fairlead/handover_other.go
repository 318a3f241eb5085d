//go:build !linux

package main

import (
	"errors"
	"log/slog"

	"github.com/fairlead-net/fairlead/relay"
)

// inherited would be what an earlier program left; only Linux hands anything over.
func inherited(*slog.Logger) (*relay.Handover, error) { return nil, nil }

func (successor) become(*relay.Handover) error { return errors.ErrUnsupported }

// canDeposit would report whether a service manager may keep what is left.
func canDeposit() bool { return false }

func deposit(*relay.Handover, *slog.Logger) {}
