//go:build !unix

package link

const canFill = false

func (h *holder) fillOnce(uintptr) bool { return true }
