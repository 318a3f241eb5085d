//go:build !linux

package main

import "golang.org/x/crypto/ssh"

// terminalModes describes a terminal as most are.
func terminalModes(int) ssh.TerminalModes { return plainModes() }
