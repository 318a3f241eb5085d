package sshchan

import (
	"net"
	"os"

	"github.com/fairlead-net/fairlead/internal/deadline"
)

// begin is d.Wait for those who have not begun to wait. The error is that they need not.
func begin(d *deadline.Deadline, closed <-chan struct{}) (<-chan struct{}, error) {
	passed := d.Wait()
	switch {
	case isClosed(closed):
		return passed, net.ErrClosed
	case isClosed(passed):
		return passed, os.ErrDeadlineExceeded
	}
	return passed, nil
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
