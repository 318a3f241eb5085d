package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/relay"
)

// handoverEnv names the descriptor of a file in memory that says what an earlier program left open.
const handoverEnv = "FAIRLEAD_HANDOVER"

// inherited reads what an earlier program left, nil if there was none.
func inherited() (*relay.Handover, error) {
	text := os.Getenv(handoverEnv)
	if text == "" {
		return nil, nil
	}
	_ = os.Unsetenv(handoverEnv)
	fd, err := strconv.Atoi(text)
	if err != nil || fd < 3 {
		return nil, fmt.Errorf("%s: %q is no descriptor", handoverEnv, text)
	}
	f := os.NewFile(uintptr(fd), "handover")
	defer f.Close()
	h := new(relay.Handover)
	if err := json.NewDecoder(f).Decode(h); err != nil {
		return nil, fmt.Errorf("what the program before left: %w", err)
	}
	for _, fd := range h.Descriptors() {
		unix.CloseOnExec(fd)
	}
	return h, nil
}

// become runs the successor in this process, with what the relay has left. It returns only if it fails; then all is lost
// that was left, and the service manager starts anew.
func (s successor) become(h *relay.Handover) error {
	fd, err := unix.MemfdCreate("fairlead-handover", 0)
	if err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	f := os.NewFile(uintptr(fd), "handover")
	if err := json.NewEncoder(f).Encode(h); err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	if _, err := f.Seek(0, 0); err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	for _, fd := range h.Descriptors() {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return fmt.Errorf("handover: descriptor %d: %w", fd, err)
		}
	}
	if err := keepPrivileges(); err != nil {
		return fmt.Errorf("handover: %w", err)
	}
	env := append(os.Environ(), handoverEnv+"="+strconv.Itoa(fd))
	return fmt.Errorf("running %s: %w", s.binary, syscall.Exec(s.binary, s.args, env)) //nolint:gosec // it is the daemon's user who asked
}
