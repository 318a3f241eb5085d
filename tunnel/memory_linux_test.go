package tunnel_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/tunnel"
	"github.com/fairlead-net/fairlead/tunnel/tunneltest"
	"github.com/fairlead-net/fairlead/tunnel/wire"
)

// TestIdleStreamsHoldLittle: a stream that was used and is idle has no goroutine, no buffer, and less than 4 kB at both ends together.
func TestIdleStreamsHoldLittle(t *testing.T) {
	d := newDuo(t, tunneltest.Options{}, tunnel.Options{})
	ended := make(chan node.Borne, 4000)
	bear := func(st *tunnel.Stream) (far net.Conn) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return nil
		}
		if _, ok := st.Bear(fds[0], node.BearOptions{Ended: func(b node.Borne) { ended <- b }}); !ok {
			t.Error("not carried")
		}
		f := os.NewFile(uintptr(fds[1]), "far")
		defer f.Close()
		far, err = net.FileConn(f)
		if err != nil {
			t.Error(err)
		}
		return far
	}
	targets := make(chan net.Conn, 1)
	d.agent.opened = func(a *tunnel.Arrival) {
		if st, err := a.Accept(nil); err == nil {
			targets <- bear(st)
		}
	}
	d.mustConnect()
	const n = 1000 // so many that what the session has for all of them is little
	var sockets []net.Conn
	before := inUse()
	goroutines := runtime.NumGoroutine()
	for range n {
		client := bear(d.open(d.hub, tcp("x:1")))
		server := <-targets
		if client == nil || server == nil {
			t.FailNow()
		}
		p := make([]byte, 70000)
		go func() { _, _ = client.Write(p) }()
		if _, err := io.ReadFull(server, make([]byte, len(p))); err != nil {
			t.Fatal(err)
		}
		sockets = append(sockets, client, server)
	}
	time.Sleep(50 * time.Millisecond) // what has come is acknowledged
	each := (inUse() - before) / n
	t.Logf("%d bytes for each stream and its sockets at both ends", each)
	if each > 4096 {
		t.Errorf("%d bytes for each stream", each)
	}
	if more := runtime.NumGoroutine() - goroutines; more > 5 {
		t.Errorf("%d goroutines more", more)
	}
	for _, c := range sockets {
		_ = c.Close()
	}
	for range 2 * n {
		<-ended
	}
	d.settles()
}

// TestLanesHoldLittle: a lane on which something has come, and nothing comes now, holds no buffer.
func TestLanesHoldLittle(t *testing.T) {
	s, _, _, end := raw(t, accepting{})
	defer end()
	link, first := again(t, s, tunneltest.Options{Lanes: true, Buffer: 4 << 10})
	open := wire.Open{Stream: 1, Kind: 1, Network: "tcp", Address: "x:1"}
	_, _ = first.Write(open.Append(wire.AppendEmpty(nil, wire.TypeReady)))
	for s.Status().Streams == 0 {
		time.Sleep(time.Millisecond)
	}
	said := make([]byte, 20<<10) // of a frame of 60 KiB
	at := wire.PutDataHead(said, wire.DataHead, 60<<10, 1, 0)
	const lanes = 500
	before := inUse()
	for range lanes {
		lane, err := link.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := lane.Write(said[at:]); err != nil { // all but 4 KiB has been read when it returns
			t.Fatal(err)
		}
	}
	each := func() int { return (inUse() - before) / lanes }
	for deadline := time.Now().Add(30 * time.Second); each() > 32<<10; time.Sleep(10 * time.Millisecond) { // some readers have yet to see that nothing comes
		if time.Now().After(deadline) {
			t.Fatalf("%d bytes for each lane", each())
		}
	}
}
