package kernel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// A TakenError says that another process keeps the table.
type TakenError struct {
	Table    string
	PID, UID int // of the holder, -1 where it is not known
}

func (e *TakenError) Error() string {
	return fmt.Sprintf("another fairlead (process %d of user %d) keeps the nftables table %q of this network namespace", e.PID, e.UID, e.Table)
}

// claim takes the right to change a table. It is an abstract unix socket of the table's name: like tables, such names
// belong to a network namespace; one process can have one; and the kernel takes it back however the process ends.
//
// Anybody may take such a name. A holder that could not change the table anyway is not believed, or any user could keep
// the daemon from its own; then both results are nil.
func claim(table string) (net.Listener, error) {
	name := "@fairlead/" + table
	ln, err := net.Listen("unix", name)
	if errors.Is(err, unix.EADDRINUSE) {
		if e := holder(table, name); e.UID == 0 || mayChangeNetwork(e.PID) {
			return nil, e
		}
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("claim the table %s: %w", table, err)
	}
	return ln, nil
}

// holder finds out who has the name. Nobody answers the connection; the kernel knows whose socket it is (unix(7), SO_PEERCRED).
func holder(table, name string) *TakenError {
	e := &TakenError{Table: table, PID: -1, UID: -1}
	conn, err := net.Dial("unix", name)
	if err != nil {
		return e
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return e
	}
	_ = raw.Control(func(fd uintptr) { // what is not found out stays -1
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			e.PID, e.UID = int(cred.Pid), int(cred.Uid)
		}
	})
	return e
}

// mayChangeNetwork reports whether a process has CAP_NET_ADMIN, and has it where we are: in a user namespace of one's own
// everybody does.
func mayChangeNetwork(pid int) bool {
	const netAdmin = 1 << 12
	ours, err := os.Readlink("/proc/self/ns/user")
	if err != nil {
		return false
	}
	if theirs, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/user", pid)); err != nil || theirs != ours {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "CapEff:"); ok {
			caps, err := strconv.ParseUint(strings.TrimSpace(value), 16, 64)
			return err == nil && caps&netAdmin != 0
		}
	}
	return false
}

// ForegroundTable is a name for the table of a forward that lives as long as this process.
func ForegroundTable() string {
	return fmt.Sprintf("%s%d_%s", foregroundPrefix, os.Getpid(), strings.ToLower(rand.Text()[:8]))
}
