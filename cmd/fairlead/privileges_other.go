//go:build !linux

package main

import (
	"fmt"
	"log/slog"
	"runtime"
)

// dropPrivileges has nothing finer than users to give up outside Linux; becoming one there is not supported.
func dropPrivileges(log *slog.Logger, to target) error {
	if to.asked {
		return fmt.Errorf("--user needs Linux; on %s start fairlead as user %q", runtime.GOOS, to.name)
	}
	if to.uid != 0 {
		log.Warn("staying root: changing the user needs Linux", "user", to.name)
	}
	return nil
}
