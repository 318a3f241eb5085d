package sshd

import (
	"testing"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// TestLowPorts keeps the ports of this host's services for keys that name them.
func TestLowPorts(t *testing.T) {
	for _, test := range []struct {
		rights Rights
		port   uint16
		want   bool
	}{
		{Rights{forwarding: true}, 8080, true},
		{Rights{forwarding: true}, 0, true}, // one is picked
		{Rights{forwarding: true}, 80, false},
		{Rights{forwarding: true, listen: []place{{host: "*"}}}, 80, false},
		{Rights{forwarding: true, listen: []place{{host: "*"}}}, 1024, true},
		{Rights{forwarding: true, listen: []place{{host: "*", port: 80}}}, 80, true},
		{Rights{listen: []place{{host: "*", port: 80}}}, 80, false},
	} {
		if got := test.rights.mayListen(sshchan.Place{Host: "localhost", Port: test.port}); got != test.want {
			t.Errorf("port %d by %+v: %v", test.port, test.rights, got)
		}
	}
}
