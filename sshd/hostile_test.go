package sshd

import (
	"bytes"
	"fmt"
	"io"
	"math/rand"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/fairlead-net/fairlead/internal/sshchan"
)

// unharmed wants s to serve an ordinary client.
func unharmed(t *testing.T, s *testServer, key testKey, target string) {
	t.Helper()
	c := s.dial(t, key)
	defer c.Close()
	conn, err := c.Dial("tcp", target)
	if err != nil {
		t.Fatal(err)
	}
	if err := tryTalk(deadlineless{conn}, "target"); err != nil {
		t.Error(err)
	}
}

func TestGarbage(t *testing.T) {
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.LoginGrace = time.Second }, key.line("", ""))
	target := echo(t, "tcp", "127.0.0.1:0", "target")
	noise := make([]byte, 100<<10)
	rand.New(rand.NewSource(1)).Read(noise)
	huge := append([]byte("SSH-2.0-x\r\n"), 0xff, 0xff, 0xff, 0xff, 20)
	for _, text := range [][]byte{
		nil, []byte("\n"), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), noise, []byte("SSH-1.5-old\r\n"), []byte("SSH-2.0-x\r\n"),
		append([]byte("SSH-2.0-x\r\n"), noise...), huge, append([]byte("SSH-2.0-x\r\n"), make([]byte, 1000)...),
		bytes.Repeat([]byte("SSH-"), 10_000), append([]byte("SSH-2.0-x\r\n"), 0, 0, 0, 12, 10, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
	} {
		conn := rawDial(t, s)
		_, _ = conn.Write(text)
		_ = conn.(*net.TCPConn).CloseWrite()
		if !closedByServer(conn) {
			t.Errorf("%.20q: the connection stays", text)
		}
		conn.Close()
	}
	unharmed(t, s, key, target.Addr().String())
	s.stop()
	target.Close()
	leaks()
}

// TestTruncated cuts a good client off after so and so many bytes, and then leaves its connection half open.
func TestTruncated(t *testing.T) {
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.LoginGrace = time.Second }, key.line("", ""))
	target := echo(t, "tcp", "127.0.0.1:0", "target")
	var running sync.WaitGroup
	for after := 5; after < 4000; after += 201 {
		raw := rawDial(t, s)
		running.Go(func() {
			defer raw.Close()
			c, channels, requests, err := ssh.NewClientConn(&shortConn{raw.(*net.TCPConn), after}, s.addr, &ssh.ClientConfig{
				User: "x", Auth: []ssh.AuthMethod{ssh.PublicKeys(key.Signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(), Timeout: patience,
			})
			if err != nil {
				return
			}
			client := ssh.NewClient(c, channels, requests)
			for range 100 {
				if conn, err := client.Dial("tcp", target.Addr().String()); err == nil {
					_, _ = io.WriteString(conn, "hello\n")
				}
			}
			client.Close()
		})
	}
	running.Wait()
	unharmed(t, s, key, target.Addr().String())
	s.stop()
	target.Close()
	leaks()
}

// A shortConn ends its direction after so many bytes.
type shortConn struct {
	*net.TCPConn
	left int
}

func (c *shortConn) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	if n, err := c.TCPConn.Write(p[:n]); err != nil || c.left > 0 {
		return n, err
	}
	_ = c.TCPConn.CloseWrite()
	return 0, io.ErrClosedPipe
}

// TestChannelFlood opens channels of all kinds without end, and malformed ones.
func TestChannelFlood(t *testing.T) {
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.MaxChannels = 50 }, key.line("", ""))
	target := echo(t, "tcp", "127.0.0.1:0", "target")
	c := s.dial(t, key)
	host, port := "127.0.0.1", uint32(target.Addr().(*net.TCPAddr).Port)
	var running sync.WaitGroup
	var mu sync.Mutex
	open := 0
	for i := range 500 {
		running.Go(func() {
			kind, payload := channelSession, []byte(nil)
			switch i % 5 {
			case 1:
				kind, payload = sshchan.Direct, ssh.Marshal(sshchan.TCPChannel{Host: host, Port: port, OriginHost: "x", OriginPort: 1})
			case 2:
				kind, payload = sshchan.Direct, []byte("\xff\xff\xff\xffgarbage")
			case 3:
				kind, payload = sshchan.DirectUnix, ssh.Marshal(sshchan.DirectUnixChannel{Path: strings.Repeat("/x", 1000)})
			case 4:
				kind = "x11"
			}
			if _, _, err := c.OpenChannel(kind, payload); err == nil {
				mu.Lock()
				defer mu.Unlock()
				open++
			}
		})
	}
	running.Wait()
	if open > 50 || open == 0 {
		t.Errorf("%d channels are open", open)
	}
	for i := range 200 {
		if _, _, err := c.SendRequest(fmt.Sprint("request-", i), false, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
	}
	for _, kind := range []string{sshchan.Forward, sshchan.Cancel, sshchan.ForwardUnix, sshchan.CancelUnix} {
		if ok, _, err := c.SendRequest(kind, true, []byte("\x00\x00\x01garbage")); ok || err != nil {
			t.Errorf("%s with garbage: %v %v", kind, ok, err)
		}
	}
	unharmed(t, s, key, target.Addr().String())
	c.Close()
	s.stop()
	target.Close()
	leaks()
}

// TestNobodyReads has a target send without end to a client that does not read, neither from its channels nor, at last, from its
// connection; and a client send to a target that does not read. The memory for it has an end.
func TestNobodyReads(t *testing.T) {
	leaks := checkLeaks(t)
	key := newTestKey(t)
	s := startServer(t, func(o *Options) { o.Keepalive = 100 * time.Millisecond }, key.line("", ""))
	target := echo(t, "tcp", "127.0.0.1:0", "target")
	firehose, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := firehose.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				for buffer := make([]byte, 64<<10); err == nil; {
					_, err = conn.Write(buffer)
				}
			}()
		}
	}()
	raw, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	cut := &cutConn{Conn: raw, cut: make(chan struct{})}
	sc, channels, requests, err := ssh.NewClientConn(cut, s.addr, &ssh.ClientConfig{
		User: "x", Auth: []ssh.AuthMethod{ssh.PublicKeys(key.Signer)}, HostKeyCallback: ssh.InsecureIgnoreHostKey(),
	})
	if err != nil {
		t.Fatal(err)
	}
	c := ssh.NewClient(sc, channels, requests)
	var running sync.WaitGroup
	for range 5 {
		conn, err := c.Dial("tcp", firehose.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		running.Go(func() {
			for buffer := make([]byte, 64<<10); err == nil; {
				_, err = conn.Write(buffer) // the firehose does not read
			}
		})
	}
	time.Sleep(300 * time.Millisecond) // it answers keepalives, so it stays
	unharmed(t, s, key, target.Addr().String())
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	if m.HeapInuse > 200<<20 {
		t.Errorf("%d MB are in use", m.HeapInuse>>20)
	}
	eventually(t, "the five to be left", func() bool { return len(s.Sessions()) == 5 })
	close(cut.cut)
	eventually(t, "the client that reads nothing to be dropped", func() bool { return len(s.Sessions()) == 0 })
	raw.Close()
	running.Wait()
	unharmed(t, s, key, target.Addr().String())
	s.stop()
	firehose.Close()
	target.Close()
	leaks()
}
