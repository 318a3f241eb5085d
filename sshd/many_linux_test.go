package sshd

import (
	"net"
	"net/netip"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/node"
)

// TestManyAtOnce has connections come and go in all three ways in which channels are carried.
func TestManyAtOnce(t *testing.T) {
	skipPlain(t)
	program(t, "ssh")
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, nil, key.line("", "alice"))
	target := echo(t, "tcp", "127.0.0.1:0", "target")
	local, remote := freePort(t), freePort(t)
	stop, _ := start(t, exec.Command("ssh", sshArgs(s, key, "-N", "-L", local+":"+target.Addr().String(), "-R", remote+":"+target.Addr().String())...))
	answers(t, "tcp", "127.0.0.1:"+local, "target")
	answers(t, "tcp", "127.0.0.1:"+remote, "target")
	n, addr := nodeOf(s)
	door, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var open atomic.Int64
	go func() {
		for {
			c, err := door.Accept()
			if err != nil {
				return
			}
			fd, _ := detach(c)
			r := &ledReport{}
			o := r.options(patience)
			before := o.Ended
			open.Add(1)
			o.Ended = func(b node.Borne) { before(b); open.Add(-1) }
			if _, ok := n.(node.Leader).Lead(fd, netip.AddrPort{}, "tcp", addr, o); !ok {
				t.Error("not led")
				_ = unix.Close(fd)
			}
		}
	}()
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			for range 20 {
				to := []string{"127.0.0.1:" + local, "127.0.0.1:" + remote, door.Addr().String()}[i%3]
				if err := tryCall("tcp", to, "target"); err != nil {
					t.Errorf("%d: %v", i%3, err)
					return
				}
			}
		})
	}
	wg.Wait()
	eventually(t, "all to end", func() bool { return len(s.Sessions()) == 0 && open.Load() == 0 && s.clientOf().opened.Load() == 0 })
	stop()
	door.Close()
	s.stop()
	target.Close()
	leaks()
}
