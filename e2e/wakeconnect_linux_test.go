package e2e

import (
	"bytes"
	endian "encoding/binary"
	"io"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

const wakeOnConnectFile = `
[forward.nas]
listen = "8445"
to = "192.168.1.10:8080"
wake = "` + sleeperMAC + `"
wake_timeout = "1m"
[forward.game]
listen = "udp/8447"
to = "192.168.1.10:9090"
wake = "` + sleeperMAC + `"
wake_timeout = "1m"
[forward.dead]
listen = "8446"
to = "192.168.1.99:8080"
wake = "02:00:5e:00:53:99"
wake_timeout = "2s"
`

// fallAsleep takes the address of a host away, so that it answers to nothing, ARP included.
func fallAsleep(t *testing.T, n *netlab.Node) {
	t.Helper()
	n.Run(t, "ip", "address", "flush", "dev", "eth0")
}

// wakeByMagic has a host that sleeps come up at a magic packet, as its card would: from a frame, whatever is in it. What it
// returns is closed then.
func wakeByMagic(t *testing.T, n *netlab.Node) <-chan struct{} {
	t.Helper()
	var fd int
	var all [2]byte
	endian.BigEndian.PutUint16(all[:], unix.ETH_P_ALL)
	if err := n.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(endian.NativeEndian.Uint16(all[:])))
		if err != nil {
			return err
		}
		return unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}) // to see that the test has ended
	}); err != nil {
		t.Fatal(err)
	}
	packet := magicPacket(t, "")
	awake := make(chan struct{})
	go func() {
		defer unix.Close(fd)
		buf := make([]byte, 2048)
		for {
			size, err := unix.Read(fd, buf)
			switch {
			case t.Context().Err() != nil:
				return
			case err == unix.EINTR || err == unix.EAGAIN:
			case err != nil:
				t.Errorf("waiting for a magic packet: %v", err)
				return
			case bytes.Contains(buf[:size], packet):
				if out, err := n.Command(t.Context(), "ip", "address", "add", netlab.Server4+"/24", "dev", "eth0").CombinedOutput(); err != nil {
					t.Errorf("waking up: %v: %s", err, out)
				}
				close(awake)
				return
			}
		}
	}()
	return awake
}

// TestWakeOnConnect has clients come to a host that sleeps.
func TestWakeOnConnect(t *testing.T) {
	lab := netlab.Gateway(t)
	nginx(t, lab.Server, 8080)
	d := up(t, lab.Host, wakeOnConnectFile)
	d.expect("nas relay up", "dead relay up")
	fallAsleep(t, lab.Server)

	// One that gives up, and stops the packets with that.
	p := lab.Client.Start(t, "nc", netlab.RouterWAN4, "8445")
	d.wait("the target is being woken", func() bool {
		return strings.Contains(d.status()["nas"].Detail, "waking 192.168.1.10 ("+sleeperMAC+") for 1 client, since ")
	})
	p.Kill()
	d.wait("nobody waits", func() bool { return d.status()["nas"].Detail == "" })

	awake := wakeByMagic(t, lab.Server)
	if got := lab.Client.Run(t, "curl", "-sS", "-m", "30", "http://203.0.113.1:8445/"); got != "hello from server\n" {
		t.Errorf("got %q", got)
	}
	<-awake
	if f := d.status()["nas"]; f.Detail != "" || f.Connections.Refused != 0 || f.Connections.Total != 1 {
		t.Errorf("after it woke: %+v", f)
	}
	// While it is awake nobody waits; what nc sends and its end go through, too.
	got := lab.Client.Feed(t, "GET / HTTP/1.0\r\n\r\n", "nc", "-w", "5", netlab.RouterWAN4, "8445")
	if !strings.Contains(got, "hello from server") {
		t.Errorf("by nc: %q", got)
	}

	// First bytes, several clients, one that never wakes.
	fallAsleep(t, lab.Server)
	early := dial(t, lab.Client, "tcp/"+netlab.RouterWAN4+":8445")
	if _, err := io.WriteString(early.conn, "GET / HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	d.wait("the target is being woken again", func() bool { return strings.Contains(d.status()["nas"].Detail, "for 1 client, ") })
	wakeByMagic(t, lab.Server)
	if got, err := io.ReadAll(early.conn); err != nil || !strings.Contains(string(got), "hello from server") {
		t.Errorf("the first bytes brought %q, %v", got, err)
	}
	out, err := lab.Client.Command(t.Context(), "curl", "-sS", "-m", "20", "http://203.0.113.1:8446/").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "reset") {
		t.Errorf("a host that never wakes: %v, %s", err, out)
	}
	if f := d.status()["dead"]; !strings.Contains(f.Detail, "target 192.168.1.99:8080: magic packets were sent, and it was not up within 2s: ") || f.Connections.Refused != 1 {
		t.Errorf("a host that never wakes: %+v", f)
	}
}

// TestWakeByDatagram has a client of UDP come to a host that sleeps: its first datagram is answered, though it was sent
// before the host was up.
func TestWakeByDatagram(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:9090")
	d := up(t, lab.Host, wakeOnConnectFile)
	fallAsleep(t, lab.Server)
	k := dial(t, lab.Client, "udp/"+netlab.RouterWAN4+":8447")
	word := "first"
	if _, err := io.WriteString(k.conn, word); err != nil {
		t.Fatal(err)
	}
	d.wait("the target is being woken", func() bool { return strings.Contains(d.status()["game"].Detail, "waking 192.168.1.10 (") })
	d.wait("the kernel has given up on the target", func() bool {
		return strings.Contains(lab.Host.Run(t, "ip", "neigh", "show", netlab.Server4), "FAILED")
	})
	<-wakeByMagic(t, lab.Server)
	_ = k.conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	buf := make([]byte, 2048)
	if n, err := k.conn.Read(buf); err != nil || !strings.Contains(string(buf[:n]), word) {
		t.Errorf("got %q, %v", buf[:n], err)
	}
	d.wait("nobody is being woken", func() bool { return d.status()["game"].Detail == "" })
}
