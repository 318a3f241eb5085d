package kernel

import (
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"os"
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
func claim(table string) (net.Listener, error) {
	name := "@fairlead/" + table
	ln, err := net.Listen("unix", name)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, holder(table, name)
	}
	if err != nil {
		return nil, fmt.Errorf("claim the table %s: %w", table, err)
	}
	return ln, nil
}

// holder finds out who has the name. Nobody answers the connection; the kernel knows whose socket it is (unix(7), SO_PEERCRED).
func holder(table, name string) error {
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

// ForegroundTable is a name for the table of a forward that lives as long as this process.
func ForegroundTable() string {
	return fmt.Sprintf("%s%d_%s", foregroundPrefix, os.Getpid(), strings.ToLower(rand.Text()[:8]))
}
