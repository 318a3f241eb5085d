package tunnel_test

import (
	"testing"

	"github.com/fairlead-net/fairlead/tunnel"
)

// TestTickets: two agents that have chosen the same id for their sessions share no ticket.
func TestTickets(t *testing.T) {
	seen := map[string]bool{}
	for _, one := range []string{
		tunnel.Ticket(tunnel.Key{1}, tunnel.ID{7}, 1), tunnel.Ticket(tunnel.Key{2}, tunnel.ID{7}, 1),
		tunnel.Ticket(tunnel.Key{1}, tunnel.ID{7}, 11), tunnel.Ticket(tunnel.Key{1}, tunnel.ID{8}, 1),
	} {
		if seen[one] {
			t.Errorf("%s is two", one)
		}
		seen[one] = true
	}
}
