//go:build !unix

package main

import "os"

// lockFile takes no lock here: of two processes that are the agent of one host each ends the other's session, and the hub says so.
func lockFile(*os.File) error { return nil }
