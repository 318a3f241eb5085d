//go:build !unix

package relay

func descriptorLimit() uint64 { return 0 }
