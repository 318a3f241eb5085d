package sshwire

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestRemoteForwardByOpenSSH has OpenSSH's server listen for us.
func TestRemoteForwardByOpenSSH(t *testing.T) {
	user := newTestKey(t)
	port := startSSHD(t, user)
	noLeaks(t)
	target := netip.MustParseAddrPort(startEcho(t))
	c := startClient(t, port, clientConfig(user), Options{Channel: func(in *Incoming) {
		fd, err := connectTo(target)
		if err != nil || in.Type != "forwarded-tcpip" {
			in.Reject(ConnectionFailed, "no")
			return
		}
		in.AcceptCarry(fd, CarryOptions{Connecting: patience})
	}})
	ok, data, err := c.SendRequest(context.Background(), "tcpip-forward", true, appendU32(appendString(nil, "127.0.0.1"), 0))
	if !ok || err != nil || len(data) != 4 {
		t.Fatal(ok, data, err)
	}
	r := reader{b: data}
	manyEchoes(t, netip.AddrPortFrom(target.Addr(), uint16(r.u32())).String())
}

// TestRemoteForwardForOpenSSH listens for OpenSSH's client.
func TestRemoteForwardForOpenSSH(t *testing.T) {
	noLeaks(t)
	user, echo := newTestKey(t), startEcho(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	listenPort := l.Addr().(*net.TCPAddr).Port
	conns := make(chan *Conn, 1)
	o := Options{Request: func(r *Request) {
		if r.Type == "tcpip-forward" {
			conns <- r.Conn()
			r.Reply(true, appendU32(nil, uint32(listenPort)))
			return
		}
		r.Reply(false, nil)
	}}
	port, _ := startServer(t, serverConfig(newTestKey(t)), o)
	start(t, program(t, "ssh"), sshArgs(user, port, "-N", "-R", "127.0.0.1:0:"+echo, "root@127.0.0.1")...)
	c := <-conns
	if _, _, err := c.SendRequest(context.Background(), requestKeepalive, true, nil); err != nil { // by now it knows the port
		t.Fatal(err)
	}
	go func() {
		for {
			s, err := l.Accept()
			if err != nil {
				return
			}
			if fd, err := sysTake(s.(*net.TCPConn)); err == nil {
				extra := appendU32(appendString(nil, "127.0.0.1"), uint32(listenPort))
				c.OpenChannelCarry("forwarded-tcpip", appendU32(appendString(extra, "127.0.0.1"), 1), int(fd), CarryOptions{})
			}
		}
	}()
	manyEchoes(t, l.Addr().String())
}

// TestOpenSSHStdio is ssh -W, through our server and as a ProxyJump of another OpenSSH.
func TestOpenSSHStdio(t *testing.T) {
	user := newTestKey(t)
	sshd := startSSHD(t, user)
	noLeaks(t)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect, RekeyBytes: 1 << 20})
	text := strings.Repeat("0123456789", 400_000)
	cmd := exec.Command(program(t, "ssh"), sshArgs(user, port, "-W", startEcho(t), "root@127.0.0.1")...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.Output(); err != nil || string(out) != text {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	jump := strings.Join(sshArgs(user, port, "-W", "%h:%p", "root@127.0.0.1"), " ")
	cmd = exec.Command(program(t, "ssh"), sshArgs(user, sshd, "-o", "ProxyCommand="+program(t, "ssh")+" "+jump, "root@127.0.0.1", "cat")...)
	cmd.Stdin = strings.NewReader(text)
	if out, err := cmd.Output(); err != nil || string(out) != text {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

// TestOpenSSHSocks is ssh -D.
func TestOpenSSHSocks(t *testing.T) {
	curl, user := program(t, "curl"), newTestKey(t)
	noLeaks(t)
	target := startTarget(t, func(c *net.TCPConn) {
		_, _ = c.Read(make([]byte, 4096))
		_, _ = io.WriteString(c, "HTTP/1.0 200 OK\r\n\r\nhello")
	})
	_, targetPort, _ := net.SplitHostPort(target)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect})
	local := freePort(t)
	start(t, program(t, "ssh"), sshArgs(user, port, "-N", "-D", "127.0.0.1:"+local, "root@127.0.0.1")...)
	waitPort(t, local)
	out, err := exec.Command(curl, "-sS", "-m", "20", "--socks5-hostname", "127.0.0.1:"+local, "http://localhost:"+targetPort).CombinedOutput()
	if err != nil || string(out) != "hello" {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestServerSession tells somebody who wants a shell that there is none.
func TestServerSession(t *testing.T) {
	noLeaks(t)
	user := newTestKey(t)
	o := Options{Channel: func(in *Incoming) {
		if in.Type != "session" {
			in.Reject(UnknownChannelType, "no")
			return
		}
		shell := make(chan struct{}, 1)
		ch, err := in.Accept(func(r *Request) {
			run := r.Type == "shell" || r.Type == "exec"
			r.Reply(run || r.Type == "pty-req", nil)
			if run {
				shell <- struct{}{}
			}
		})
		if err != nil {
			return
		}
		go func() {
			<-shell
			_, _ = ch.WriteStderr([]byte("no shell here\n"))
			_, _ = ch.SendRequest(context.Background(), "exit-status", false, appendU32(nil, 3))
			_ = ch.Close()
		}()
	}}
	port, _ := startServer(t, serverConfig(newTestKey(t)), o)
	cmd := exec.Command(program(t, "ssh"), sshArgs(user, port, "root@127.0.0.1", "uptime")...)
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState.ExitCode() != 3 || !strings.Contains(string(out), "no shell here") {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestFlood has a peer that asks and does not listen: what is kept for it must not grow without end.
func TestFlood(t *testing.T) {
	noLeaks(t)
	c, far := openConn(t, newTestKey(t), false)
	defer unix.Close(far)
	ping := framed(message(msgPing, strings.Repeat("x", 1000)))
	var many []byte
	for range 50 {
		many = append(many, messages(ping)...)
	}
	go func() { // it lets go of the loop at the end
		deadline := time.Now().Add(patience)
		for sent, stuck := 0, 0; sent < 40<<20 && stuck < 100 && time.Now().Before(deadline); {
			n, err := unix.Write(far, many)
			if err != nil || n < len(many) { // what is cut off is made up for below
				stuck++
				time.Sleep(time.Millisecond)
				if n <= 0 {
					continue
				}
				for rest := many[n:]; len(rest) > 0 && stuck < 100; {
					if n, _ := unix.Write(far, rest); n > 0 {
						rest = rest[n:]
					} else {
						stuck++
						time.Sleep(time.Millisecond)
					}
				}
			}
			sent += len(many)
		}
		c.loop.post(func() {
			if c.ended || c.unsent() > outMost+reads*inSize*2 {
				t.Errorf("%d bytes wait, ended: %v", c.unsent(), c.ended)
			}
			c.die(io.EOF)
		})
	}()
	c.start()
	c.loop.serve(c.over)
}
