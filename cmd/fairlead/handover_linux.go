package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/relay"
)

// handoverEnv names the descriptor of a manifest whose own descriptors are open in this process.
const handoverEnv = "FAIRLEAD_HANDOVER"

// inherited is what an earlier program has left, in this process or with the service manager; nil if there is nothing.
func inherited(log *slog.Logger) (*legacy, error) {
	text := os.Getenv(handoverEnv)
	if text == "" {
		return withdraw(log), nil
	}
	_ = os.Unsetenv(handoverEnv)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s: %q is no descriptor", handoverEnv, text)
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	h, err := readManifest(f)
	if err != nil {
		return nil, err
	}
	for _, fd := range h.descriptors() {
		unix.CloseOnExec(fd)
	}
	return h, nil
}

// become runs the successor in this process, with what the daemon has left. It returns only if it fails.
func (s successor) become(h *legacy) error {
	f, err := writeManifest(h)
	if err != nil {
		return err
	}
	defer f.Close()
	manifest := int(f.Fd())
	for _, fd := range append(h.descriptors(), manifest) {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("handover: descriptor %d: %w", fd, err)
		}
	}
	if err := keepPrivileges(); err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	env := append(os.Environ(), handoverEnv+"="+strconv.Itoa(manifest))
	return fmt.Errorf("running %s: %w", s.binary, syscall.Exec(s.binary, s.args, env)) //nolint:gosec // it is the daemon's user who asked
}

// writeManifest writes down what is left, in a file in memory: the format, and then everything.
func writeManifest(h *legacy) (*os.File, error) {
	fd, err := unix.MemfdCreate("fairlead-handover", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("handover: %w", err)
	}
	f := os.NewFile(uintptr(fd), "handover")
	enc := json.NewEncoder(f)
	err = enc.Encode(relay.HandoverFormat)
	if err == nil {
		err = enc.Encode(h)
	}
	if err == nil {
		_, err = f.Seek(0, 0)
	}
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("handover: %w", err)
	}
	return f, nil
}

// readManifest reads what an earlier program has written down. The descriptors are numbered as in that one.
func readManifest(f *os.File) (*legacy, error) {
	dec := json.NewDecoder(f)
	var format int
	if err := dec.Decode(&format); err != nil {
		return nil, fmt.Errorf("what the program before left: %w", err)
	}
	if format != relay.HandoverFormat {
		return nil, fmt.Errorf("the program before left format %d, and this one takes over %d", format, relay.HandoverFormat)
	}
	h := new(legacy)
	if err := dec.Decode(h); err != nil {
		return nil, fmt.Errorf("what the program before left: %w", err)
	}
	if !h.whole() {
		return nil, errors.New("what the program before left is not whole")
	}
	return h, nil
}

// duplicateFD is another number of a descriptor, or -1.
func duplicateFD(fd int) int {
	dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return -1
	}
	return dup
}
