package main

import (
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// TestJoinWithAnothersToken: a machine that is no agent yet is not told that it was enrolled.
func TestJoinWithAnothersToken(t *testing.T) {
	err := explainJoin(&link.WrongKeyError{Want: tunnel.Key{1}, Got: tunnel.Key{2}})
	if strings.Contains(err.Error(), "enrolled") || !strings.Contains(err.Error(), "the token is of the hub with the key "+tunnel.Key{1}.String()) {
		t.Error(err)
	}
}
