//go:build !linux

package main

import (
	"errors"
	"log/slog"
)

// inherited would be what an earlier program left; only Linux hands anything over.
func inherited(*slog.Logger) (*legacy, error) { return nil, nil }

func (successor) become(*legacy) error { return errors.ErrUnsupported }

// canDeposit would report whether a service manager may keep what is left.
func canDeposit() bool { return false }

func deposit(*legacy, *slog.Logger) {}

// duplicateFD would be another number of a descriptor.
func duplicateFD(int) int { return -1 }
