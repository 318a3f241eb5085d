package main

import (
	"errors"
	"fmt"
	"log/slog"

	"golang.org/x/sys/unix"
	"kernel.org/pub/linux/libs/security/libcap/cap"
)

// needed is what carrying forwards takes: nftables and conntrack, and ports below 1024. Binding to an interface
// (SO_BINDTODEVICE) takes none since Linux 5.7.
var needed = [...]cap.Value{cap.NET_ADMIN, cap.NET_BIND_SERVICE}

// dropPrivileges gives up, in every thread and for good, all that carrying forwards does not take: other capabilities, the
// way back to them by running a program, and, where there is a user to become, being root. A process that has nothing to
// lose, an ordinary user's, only gives up the way back.
func dropPrivileges(log *slog.Logger, to target) error {
	had := cap.GetProc()
	keep := cap.NewSet()
	var kept []string
	for _, v := range needed {
		if has, err := had.GetFlag(cap.Permitted, v); err != nil || !has {
			continue
		}
		for _, flag := range []cap.Flag{cap.Permitted, cap.Effective} {
			if err := keep.SetFlag(flag, true, v); err != nil {
				return fmt.Errorf("dropping privileges: %w", err)
			}
		}
		kept = append(kept, v.String())
	}
	if err := shrinkBounding(had); err != nil {
		return fmt.Errorf("dropping privileges: bounding set: %w", err)
	}
	if to.uid != 0 {
		if err := become(to); err != nil {
			if to.asked {
				return fmt.Errorf("becoming user %q: %w", to.name, err)
			}
			log.Warn("staying root: the user cannot be changed", "user", to.name, "err", err)
		}
	}
	if err := cap.ResetAmbient(); err != nil {
		return fmt.Errorf("dropping privileges: ambient set: %w", err)
	}
	if err := keep.SetProc(); err != nil {
		return fmt.Errorf("dropping privileges: %w", err)
	}
	if _, err := cap.Prctlw(unix.PR_SET_NO_NEW_PRIVS, 1); err != nil {
		return fmt.Errorf("dropping privileges: no_new_privs: %w", err)
	}
	if more, err := had.Cf(keep); err == nil && more != 0 {
		log.Info("privileges dropped", "uid", unix.Geteuid(), "gid", unix.Getegid(), "kept", kept)
	}
	return nil
}

// shrinkBounding takes everything but what is needed out of the set of what this process could ever regain.
func shrinkBounding(had *cap.Set) error {
	if may, err := had.GetFlag(cap.Permitted, cap.SETPCAP); err != nil || !may {
		return nil // no_new_privs closes the same way
	}
	var drop []cap.Value
	for v := range cap.MaxBits() {
		if in, err := cap.GetBound(v); err == nil && in && v != needed[0] && v != needed[1] {
			drop = append(drop, v)
		}
	}
	return cap.DropBound(drop...)
}

// become hands over what is open and changes group and user. Capabilities stay permitted; what is not needed goes next.
func become(to target) error {
	if to.give != nil {
		if err := to.give(to.uid, to.gid); err != nil {
			return err
		}
	}
	return errors.Join(cap.SetGroups(to.gid), cap.SetUID(to.uid))
}

// keepPrivileges has a program that this process becomes start with what this process still may do (capabilities(7),
// ambient set).
func keepPrivileges() error {
	set := cap.GetProc()
	var keep []cap.Value
	for _, v := range needed {
		if has, err := set.GetFlag(cap.Permitted, v); err != nil || !has {
			continue
		}
		if err := set.SetFlag(cap.Inheritable, true, v); err != nil {
			return err
		}
		keep = append(keep, v)
	}
	if len(keep) == 0 {
		return nil
	}
	if err := set.SetProc(); err != nil {
		return err
	}
	return cap.SetAmbient(true, keep...)
}
