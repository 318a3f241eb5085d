//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyResize has changes of the terminal's size sent to c.
func notifyResize(c chan<- os.Signal) { signal.Notify(c, syscall.SIGWINCH) }

// suspend stops the program as Ctrl-Z does; it returns when the program goes on.
func suspend() { _ = syscall.Kill(0, syscall.SIGTSTP) }
