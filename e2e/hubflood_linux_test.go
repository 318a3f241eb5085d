package e2e

import (
	"crypto/rand"
	"net"
	"sync"
	"testing"
	"time"
)

// TestHubFlooded: strangers open thousands of connections to the hub's port that say nothing, too little or nonsense, and send datagrams of the same kind.
// What is open goes on, another machine is enrolled, and the agent that loses its link comes back.
func TestHubFlooded(t *testing.T) {
	needs(t, "ip")
	t.Parallel()
	l := newTunnelLab(t)
	hub := up(t, l.hub, hubFile)
	agentUp(t, hub, l.home, "home", webAtHub)
	waitFor(t, "the hub listens", func() bool { return l.hub.Listening("tcp", 8000) })
	x := startTransfer(t, l.visitor, hubAddr+":8000", l.home, 8080, 3)

	says := [][]byte{nil, []byte("\x16\x03\x01"), append([]byte("\x16\x03\x01\x40\x00"), make([]byte, 100)...), []byte("GET / HTTP/1.1\r\n"),
		[]byte("\x16\x03\x01\x01\x00\x01\x00\x00\xfc\x03\x03"), []byte("SSH-2.0-x\r\n")}
	stop := make(chan struct{})
	var flood sync.WaitGroup
	for range 4 {
		flood.Go(func() {
			var open []net.Conn
			for i := 0; ; i++ {
				select {
				case <-stop:
					for _, c := range open {
						_ = c.Close()
					}
					return
				case <-time.After(time.Millisecond):
				}
				if c, err := l.visitor.Dial(t.Context(), "tcp", hubAddr+":443"); err == nil {
					_, _ = c.Write(says[i%len(says)])
					open = append(open, c)
				}
				if len(open) > 500 {
					_ = open[0].Close()
					open = open[1:]
				}
			}
		})
	}
	flood.Go(func() {
		c, err := l.visitor.Dial(t.Context(), "udp", hubAddr+":443")
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for p := make([]byte, 1252); ; {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			_, _ = rand.Read(p)                                       // never fails
			copy(p, []byte{0xc3, 0, 0, 0, 1, 8, p[6], p[7], 1, 2, 3}) // RFC 9000, section 17.2.2: an Initial packet, by its looks
			_, _ = c.Write(p)
		}
	})
	defer flood.Wait()
	defer close(stop)

	moves := func(what string) {
		t.Helper()
		up, down := x.moved()
		waitFor(t, what, func() bool {
			u, d := x.moved()
			return u > up+1<<20 && d > down+1<<20
		})
	}
	moves("what is open goes on")
	agentUp(t, hub, l.office, "office", "") // there is room for one more
	lost := hub.agents()["home"].Resumed
	l.home.Readdress(t, "eth0", "100.64.0.23/24")
	l.line.Cut()
	time.Sleep(12 * time.Second) // by which every link is lost
	l.line.Mend()
	waitFor(t, "the agent is back", func() bool { a := hub.agents()["home"]; return a.State == "up" && a.Resumed > lost })
	moves("what was open goes on after the agent was away")
	x.finish()
}
