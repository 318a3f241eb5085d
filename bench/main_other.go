//go:build !linux

package main

import (
	"context"
	"errors"
)

func run(context.Context, options) error {
	return errors.New("the measurements need network namespaces, and so Linux")
}

func role(string) (error, bool) { return nil, false }
