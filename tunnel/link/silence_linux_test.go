package link

import (
	"errors"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestSilence: of an end that has no power any more nobody says so, and the other end finds out.
func TestSilence(t *testing.T) {
	f := newFar(t, netlabPlain)
	agent, hubEnd, _, _ := f.pair(t, QUIC)
	f.line.Set(netlab.Quality{Loss: 1})
	for _, end := range []*quicLink{agent.(*quicLink), hubEnd.(*quicLink)} {
		if err := away(t, end); err == nil || errors.Is(err, errPeerClosed) || !strings.HasPrefix(err.Error(), "nothing was heard for ") {
			t.Errorf("the link ended otherwise: %v", err)
		}
	}
}
