package host

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

const (
	canBindInterface = true
	canDialFrom      = true
)

// prepare is called for every listening socket before bind(2).
func prepare(c syscall.RawConn, b node.Binding) error {
	if len(b.Beside) > 0 {
		if err := reusePort(c, true); err != nil {
			return err
		}
	}
	if b.Interface == "" {
		return nil
	}
	return control(c, func(fd int) error {
		if err := unix.BindToDevice(fd, b.Interface); err != nil {
			return fmt.Errorf("interface %s: %w", b.Interface, err)
		}
		return nil
	})
}

func reusePort(c syscall.RawConn, on bool) error {
	value := 0
	if on {
		value = 1
	}
	return control(c, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, value) })
}

func control(c syscall.RawConn, do func(fd int) error) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = do(int(fd)) }); err != nil {
		return err
	}
	return inner
}
