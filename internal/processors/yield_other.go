//go:build !linux

package processors

func yieldThread() {}
