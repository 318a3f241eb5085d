package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// defaultUser is whom a daemon that root starts becomes, where there is such a user.
const defaultUser = "fairlead"

// A target is the user to become when privileges are dropped. The zero target is to stay who one is.
type target struct {
	name     string
	uid, gid int
	asked    bool                     // by --user: then failing to become that user is fatal
	give     func(uid, gid int) error // hands over what has been opened already
}

// findUser looks up whom to become; "" is defaultUser where there is one, and then only as root.
func findUser(name string) (target, error) {
	t := target{name: name, asked: name != ""}
	if name == "" {
		t.name = defaultUser
	}
	if os.Geteuid() != 0 {
		if t.asked {
			return t, advise(fmt.Errorf("becoming user %q needs root", name), "leave --user out, or start fairlead as that user")
		}
		return target{}, nil
	}
	u, err := user.Lookup(t.name)
	switch {
	case err != nil && t.asked:
		return t, fmt.Errorf("--user: %w", err)
	case err != nil:
		return target{}, nil
	}
	uid, uidErr := strconv.Atoi(u.Uid)
	gid, gidErr := strconv.Atoi(u.Gid)
	if err := errors.Join(uidErr, gidErr); err != nil {
		return t, fmt.Errorf("user %q: %w", t.name, err) // Windows: users have no numbers
	}
	t.uid, t.gid = uid, gid
	if uid == 0 {
		return target{}, nil
	}
	return t, nil
}

// giveState gives a state directory and what is in it to another user. One that holds anything but the daemon's own files
// is somebody's directory, given by mistake, and not given away.
func giveState(dir string, uid, gid int) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	paths := []string{dir}
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), "fairlead.") || !e.Type().IsRegular() {
			return advise(fmt.Errorf("the state directory %s holds other files (%s) and cannot become another user's", dir, e.Name()),
				"name a directory with --state that is for fairlead alone")
		}
		paths = append(paths, filepath.Join(dir, e.Name()))
	}
	for _, path := range paths {
		if err := os.Lchown(path, uid, gid); err != nil {
			return err
		}
	}
	return nil
}
