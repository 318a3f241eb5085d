package kernel

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// settingsFile is where, in the state directory, a router notes what it has changed.
const settingsFile = "gateway-settings"

// A router has the kernel forward packets between its interfaces. What it changes for that it notes first, in a file where
// it has a directory, so that a later process can give it back.
type router struct {
	dir string
	log *slog.Logger

	read    bool      // changed is what the file says
	changed []setting // by this process or an earlier one, in the order in which it was done
}

// A setting is one value under /proc/sys: what it was, and what it was changed to.
type setting struct {
	path   string // as in "net/ipv4/ip_forward"
	was    string
	is     string
	follow bool // only from "1": another value is somebody's decision
}

// wanted is the settings of a router whose outside is wan. On a router the kernel takes no router advertisements unless it is
// told to (accept_ra = 2), and forgets the routes that it has from them when it becomes one, so that comes first.
func (r *router) wanted(wan []string) []setting {
	var out []setting
	if all, err := net.Interfaces(); err == nil {
		for _, i := range all {
			if slices.ContainsFunc(wan, func(pattern string) bool { return matchesInterface(pattern, i.Name) }) {
				out = append(out, setting{path: "net/ipv6/conf/" + i.Name + "/accept_ra", is: "2", follow: true})
			}
		}
	}
	return append(out, setting{path: "net/ipv4/ip_forward", is: "1"}, setting{path: "net/ipv6/conf/all/forwarding", is: "1"})
}

func matchesInterface(pattern, name string) bool {
	if prefix, wild := strings.CutSuffix(pattern, "*"); wild {
		return strings.HasPrefix(name, prefix)
	}
	return pattern == name
}

// needed reports whether s is not as it should be, and what it is.
func (s setting) needed() (now string, needed bool, err error) {
	b, err := os.ReadFile(s.file())
	if errors.Is(err, fs.ErrNotExist) { // no IPv6, or the interface went
		return "", false, nil
	}
	now = strings.TrimSpace(string(b))
	return now, err == nil && now != s.is && (!s.follow || now == "1"), err
}

func (s setting) file() string { return "/proc/sys/" + s.path }

func (s setting) write(value string) error {
	err := os.WriteFile(s.file(), []byte(value+"\n"), 0)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	name := strings.ReplaceAll(s.path, "/", ".")
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, errReadOnly) {
		return fmt.Errorf("%s = %s is needed and cannot be set: %w: it takes root, or set it by hand", name, value, err)
	}
	return fmt.Errorf("%s = %s is needed and cannot be set: %w", name, value, err)
}

// set changes what is not as it should be, and gives back what an earlier outside needed.
func (r *router) set(wan []string) error {
	wanted := r.wanted(wan)
	var errs []error
	errs = append(errs, r.load())
	gone := slices.DeleteFunc(slices.Clone(r.changed), func(s setting) bool {
		return slices.ContainsFunc(wanted, func(w setting) bool { return w.path == s.path })
	})
	errs = append(errs, r.giveBack(gone))
	for _, s := range wanted {
		now, needed, err := s.needed()
		if !needed {
			errs = append(errs, err)
			continue
		}
		s.was = now
		if !slices.ContainsFunc(r.changed, func(o setting) bool { return o.path == s.path }) {
			r.changed = append(r.changed, s)
			errs = append(errs, r.store())
		}
		if err := s.write(s.is); err != nil {
			errs = append(errs, err)
			continue
		}
		r.log.Info("the kernel forwards packets", "setting", s.path, "was", now, "is", s.is)
	}
	return errors.Join(errs...)
}

// holds reports whether everything is as it should be, as far as it can be told.
func (r *router) holds(wan []string) bool {
	for _, s := range r.wanted(wan) {
		if _, needed, _ := s.needed(); needed {
			return false
		}
	}
	return true
}

// restore gives everything back, what an earlier process has changed included.
func (r *router) restore() error {
	if err := r.load(); err != nil {
		return err
	}
	return r.giveBack(slices.Clone(r.changed))
}

// giveBack gives settings back, the last one first. One that has another value by now is somebody else's.
func (r *router) giveBack(list []setting) error {
	var errs []error
	for _, s := range slices.Backward(list) {
		now, err := os.ReadFile(s.file())
		if err == nil && strings.TrimSpace(string(now)) == s.is {
			if err := s.write(s.was); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		r.changed = slices.DeleteFunc(r.changed, func(o setting) bool { return o.path == s.path })
	}
	if len(list) > 0 {
		errs = append(errs, r.store())
	}
	return errors.Join(errs...)
}

// load reads the file, once. What an earlier boot of this host has noted is over.
func (r *router) load() error {
	if r.read || r.dir == "" {
		return nil
	}
	b, err := os.ReadFile(filepath.Join(r.dir, settingsFile))
	if errors.Is(err, fs.ErrNotExist) {
		r.read = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read which settings of the kernel were changed: %w", err)
	}
	boot, list, err := parseSettings(b)
	r.read = true // what cannot be read is said once, and then written anew
	if err != nil {
		return fmt.Errorf("%s: %w", filepath.Join(r.dir, settingsFile), err)
	}
	if boot == bootID() {
		for _, s := range list {
			if !slices.ContainsFunc(r.changed, func(o setting) bool { return o.path == s.path }) {
				r.changed = append(r.changed, s)
			}
		}
	}
	return nil
}

// store writes the file anew, or removes it where nothing is changed.
func (r *router) store() error {
	if r.dir == "" {
		return nil
	}
	name := filepath.Join(r.dir, settingsFile)
	if len(r.changed) == 0 {
		if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	temporary := name + ".new"
	if err := os.WriteFile(temporary, formatSettings(bootID(), r.changed), 0o600); err != nil {
		return fmt.Errorf("note which settings of the kernel are changed: %w", err)
	}
	return os.Rename(temporary, name)
}

// bootID tells boots of this host apart, "" where the kernel does not say.
func bootID() string {
	b, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(b))
}
