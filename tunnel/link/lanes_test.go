package link

import (
	"testing"
	"time"

	"github.com/quic-go/quic-go"
)

// TestLanesOfStrangers: who has shown a key that nobody has asked about yet cannot have the hub make room for many lanes by naming a high one.
func TestLanesOfStrangers(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	conn, err := quic.DialAddr(t.Context(), b.addr, agentTLS(identity(t), b.Identity.Key()), quicConfig())
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for err == nil {
		if _, err = conn.OpenStream(); err == nil {
			n++
		}
	}
	_ = conn.CloseWithError(0, "")
	if n != quicLanes || n > 256 {
		t.Errorf("a stranger may open %d lanes", n)
	}
}

// TestEvictedByQUIC: who has to make room is gone, and not only counted no more.
func TestEvictedByQUIC(t *testing.T) {
	leaks(t)
	b := hub(t, nil)
	conn, err := quic.DialAddr(t.Context(), b.addr, agentTLS(identity(t), b.Identity.Key()), quicConfig())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.CloseWithError(0, "") }()
	link, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	b.gate.mu.Lock()
	c := &b.gate.all
	for c.parts != nil {
		for _, part := range c.parts {
			c = part
		}
	}
	b.gate.evictLocked(c.guests[0], time.Now(), 0)
	b.gate.mu.Unlock()
	select {
	case <-conn.Context().Done():
	case <-time.After(30 * time.Second):
		t.Error("the connection of one who was evicted goes on")
	}
}
