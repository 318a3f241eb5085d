//go:build !linux

package link

import (
	"context"
	"sync"
)

// watch would tell when this host's addresses have changed.
func watch(context.Context, *sync.WaitGroup, func(func() error) error) <-chan struct{} { return nil }
