//go:build !unix

package sshconfig

import "io/fs"

// ownedWell trusts systems whose owners are not numbers.
func ownedWell(fs.FileInfo) bool { return true }
