package agent

import (
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// A PROXY header has one family for both addresses: that of the client, or a target would see ::ffff:198.51.100.7.
func TestCalledAt(t *testing.T) {
	for _, c := range []struct{ bound, client, want string }{
		{"tcp/8080", "198.51.100.7", "0.0.0.0:8080"},
		{"tcp/8080", "::ffff:198.51.100.7", "0.0.0.0:8080"},
		{"tcp/8080", "2001:db8::7", "[::]:8080"},
		{"tcp/203.0.113.1:8080", "198.51.100.7", "203.0.113.1:8080"},
		{"tcp/8080", "", "[::]:8080"},
	} {
		bound, err := forward.ParseListen(c.bound)
		if err != nil {
			t.Fatal(err)
		}
		var client netip.Addr
		if c.client != "" {
			client = netip.MustParseAddr(c.client)
		}
		if got := calledAt(forward.Door{Listen: bound}, client).String(); got != c.want {
			t.Errorf("at %s %q called %s, want %s", c.bound, c.client, got, c.want)
		}
	}
}
