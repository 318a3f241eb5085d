package relay

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// ftpServer speaks as much FTP as the relay has to do with; "DATA" opens the data connection and echoes there. passivePort is
// where it waits for those that are passive, "0" for any port.
func ftpServer(t *testing.T, addr, passivePort string) string {
	t.Helper()
	host, _, _ := net.SplitHostPort(addr)
	return serve(t, "tcp", addr, func(c net.Conn) {
		var passive net.Listener
		var active string
		defer func() {
			if passive != nil {
				passive.Close()
			}
		}()
		fmt.Fprint(c, "220 hello\r\n")
		lines := bufio.NewScanner(plain(c))
		for lines.Scan() {
			verb, argument, _ := strings.Cut(lines.Text(), " ")
			switch verb {
			case "PASV", "EPSV":
				if passive != nil {
					passive.Close()
				}
				var err error
				if passive, err = net.Listen("tcp", net.JoinHostPort(host, passivePort)); err != nil {
					fmt.Fprint(c, "500 no port\r\n")
					continue
				}
				at := passive.Addr().(*net.TCPAddr).AddrPort()
				if active = ""; verb == "EPSV" {
					fmt.Fprintf(c, "229 (|||%d|)\r\n", at.Port())
				} else {
					fmt.Fprintf(c, "227 (10,9,8,7,%d,%d)\r\n", at.Port()>>8, at.Port()&255)
				}
			case "PORT":
				n := strings.Split(argument, ",")
				high, _ := strconv.Atoi(n[4])
				low, _ := strconv.Atoi(n[5])
				active = net.JoinHostPort(strings.Join(n[:4], "."), itoa(high<<8|low))
				fmt.Fprint(c, "200 ok\r\n")
			case "EPRT":
				n := strings.Split(argument, "|")
				active = net.JoinHostPort(n[2], n[3])
				fmt.Fprint(c, "200 ok\r\n")
			case "DATA":
				d := net.Dialer{LocalAddr: &net.TCPAddr{IP: c.LocalAddr().(*net.TCPAddr).IP}} // as servers do
				data, err := d.Dial("tcp", active)
				if active == "" {
					data, err = passive.Accept()
				}
				if err != nil {
					fmt.Fprintf(c, "425 %v\r\n", err)
					continue
				}
				fmt.Fprintf(c, "150 here it comes\r\n200 with %s\r\n", data.RemoteAddr())
				done := make(chan struct{})
				go func() { defer close(done); echo(data); data.Close() }()
				defer func() { c.Close(); <-done }()
			case "AUTH":
				fmt.Fprint(c, "234 go\r\n")
			default:
				fmt.Fprint(c, "200 ok\r\n")
			}
		}
	}).String()
}

// An ftpClient is the client's end of a control connection.
type ftpClient struct {
	t *testing.T
	net.Conn
	lines *bufio.Reader
}

func dialFTP(t *testing.T, addr string) *ftpClient {
	t.Helper()
	c := &ftpClient{t: t, Conn: dial(t, "tcp", addr)}
	c.lines = bufio.NewReader(plain(c.Conn))
	c.expect("220")
	return c
}

func (c *ftpClient) expect(code string) string {
	c.t.Helper()
	line, err := c.lines.ReadString('\n')
	if !strings.HasPrefix(line, code) {
		c.t.Fatalf("got %q, %v; want %s", line, err, code)
	}
	return line
}

func (c *ftpClient) say(line, code string) string {
	c.t.Helper()
	fmt.Fprintf(c, "%s\r\n", line)
	return c.expect(code)
}

// passive opens a data connection with PASV or EPSV.
func (c *ftpClient) passive(verb string) net.Conn {
	c.t.Helper()
	at := c.offered(verb)
	data := dial(c.t, "tcp", at.String())
	c.say("DATA", "150")
	c.expect("200")
	return data
}

// offered is where the relay offers a data connection.
func (c *ftpClient) offered(verb string) netip.AddrPort {
	c.t.Helper()
	var port uint16
	at := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	if verb == "EPSV" {
		if _, err := fmt.Sscanf(c.say(verb, "229"), "229 Entering Extended Passive Mode (|||%d|)", &port); err != nil {
			c.t.Fatal(err)
		}
		return netip.AddrPortFrom(at, port)
	}
	var n [6]int
	if _, err := fmt.Sscanf(c.say(verb, "227"), "227 Entering Passive Mode (%d,%d,%d,%d,%d,%d)", &n[0], &n[1], &n[2], &n[3], &n[4], &n[5]); err != nil {
		c.t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{byte(n[0]), byte(n[1]), byte(n[2]), byte(n[3])}), uint16(n[4]<<8|n[5]))
}

// active opens one with PORT or EPRT.
func (c *ftpClient) active() net.Conn {
	c.t.Helper()
	at := c.LocalAddr().(*net.TCPAddr).AddrPort()
	at = netip.AddrPortFrom(at.Addr().Unmap(), 0)
	ln, err := net.Listen("tcp", at.String())
	if err != nil {
		c.t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).Port
	if at.Addr().Is4() {
		b := at.Addr().As4()
		c.say(fmt.Sprintf("PORT %d,%d,%d,%d,%d,%d", b[0], b[1], b[2], b[3], port>>8, port&255), "200")
	} else {
		c.say(fmt.Sprintf("EPRT |2|%s|%d|", at.Addr(), port), "200")
	}
	c.say("DATA", "150")
	if !hasClient(c.t, ln) {
		c.t.Error("the transfer begins without a connection") // curl 7.88 gives up then
	}
	_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	data, err := ln.Accept()
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { data.Close() })
	_ = data.SetDeadline(time.Now().Add(patience))
	c.expect("200")
	if from := data.RemoteAddr().(*net.TCPAddr).IP.String(); from != c.RemoteAddr().(*net.TCPAddr).IP.String() {
		c.t.Errorf("the data connection comes from %s", from)
	}
	return data
}

func ftpForward(t *testing.T, name, listen, to string) *forward.Forward {
	t.Helper()
	f := fwd(t, name, listen, to)
	f.Helper = forward.HelperFTP
	return f
}

// TestFTP has data connections both ways, of both families and between them, as other systems have it, too.
func TestFTP(t *testing.T) {
	for _, c := range []struct{ front, back string }{
		{"127.0.0.1", "127.0.0.2"}, {"[::1]", "[::1]"}, {"127.0.0.1", "[::1]"}, {"[::1]", "127.0.0.1"},
	} {
		for _, portable := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s to %s, portable=%v", c.front, c.back, portable), func(t *testing.T) {
				r := startRelay(t)
				if portable {
					r = startPortable(t)
				}
				server := ftpServer(t, c.back+":0", "0")
				front := c.front + ":" + freePort(t)
				apply(t, r, ftpForward(t, "ftp", front, server))
				client := dialFTP(t, front)
				var all []net.Conn
				for _, verb := range []string{"EPSV", "PASV"} {
					if verb == "EPSV" || c.front == "127.0.0.1" {
						all = append(all, client.passive(verb))
					}
				}
				all = append(all, client.active())
				for _, data := range all {
					ask(t, data, "hello")
				}
				if n := len(sessionsOf(r)); n != len(all)+1 {
					t.Errorf("%d sessions are shown, with %d data connections", n, len(all))
				}
				if s := r.Stats()["ftp"]; s.Open != 1 || s.Total != 1 || s.BytesIn < uint64(5*len(all)) || s.BytesOut < uint64(5*len(all)) {
					t.Errorf("stats: %+v", s)
				}
				all[0].Close()
				eventually(t, "one data connection to end", func() bool { return len(sessionsOf(r)) == len(all) })
				for _, s := range sessionsOf(r) {
					if s.Target == server {
						if err := r.Kill(s.ID); err != nil {
							t.Error(err)
						}
					}
				}
				eventually(t, "data connections to be killed with their session", func() bool { return len(sessionsOf(r)) == 0 })
				turnedAway(t, all[1])
			})
		}
	}
}

// TestFTPLimits has data connections count as parts of their session.
func TestFTPLimits(t *testing.T) {
	r := startRelay(t)
	server, front := ftpServer(t, "127.0.0.2:0", "0"), "127.0.0.1:"+freePort(t)
	f := ftpForward(t, "ftp", front, server)
	f.MaxConnections, f.MaxPerSource, f.Bandwidth = 1, 1, 1<<20
	apply(t, r, f)
	client := dialFTP(t, front)
	var all []net.Conn
	for range maxData {
		all = append(all, client.passive("PASV"))
		ask(t, all[len(all)-1], "hello")
	}
	at := client.offered("PASV")
	turnedAwayAt(t, "127.0.0.1", at.String()) // one too many
	turnedAwayAt(t, "127.0.0.1", front)       // another session
	all[0].Close()
	eventually(t, "one to end", func() bool { return len(sessionsOf(r)) == maxData })
	ask(t, client.passive("EPSV"), "hello")

	// A forward that is changed carries on, and its data connections count for what it is now.
	g := *f
	g.Bandwidth, g.MaxPerSource = 2<<20, 0
	apply(t, r, &g)
	all[1].Close()
	eventually(t, "another to end", func() bool { return len(sessionsOf(r)) == maxData })
	ask(t, client.passive("EPSV"), "hello")
	client.Close() // what is under way finishes
	ask(t, all[2], "still here")
	eventually(t, "the session to end", func() bool { return r.Stats()["ftp"].Open == 0 })
	apply(t, r)
	turnedAway(t, all[2])
}

// TestFTPStrangers lets nobody else have a data connection, and offers a few at a time only.
func TestFTPStrangers(t *testing.T) {
	r := startRelay(t)
	server, front := ftpServer(t, "127.0.0.2:0", "0"), "127.0.0.1:"+freePort(t)
	apply(t, r, ftpForward(t, "ftp", front, server))
	client := dialFTP(t, front)
	at := client.offered("PASV").String()
	turnedAwayAt(t, "127.0.0.3", at)
	data := dial(t, "tcp", at)
	client.say("DATA", "150")
	client.expect("200")
	ask(t, data, "hello")
	if c, err := net.Dial("tcp", at); err == nil {
		c.Close()
		t.Error("a port that was used is still open")
	}
	client.say("PORT 127,0,0,3,200,10", "500")
	client.say("PORT 127,0,0,1,0,22", "504")
	first := client.offered("PASV").String()
	for range maxWaiting {
		client.offered("PASV")
	}
	if c, err := net.Dial("tcp", first); err == nil {
		c.Close()
		t.Error("a port that was superseded is still open")
	}
	r.data.mu.Lock()
	if n := len(r.data.open); n != maxWaiting {
		t.Errorf("%d ports are open", n)
	}
	r.data.mu.Unlock()
	client.say("QUIT", "200")
	client.Close()
	eventually(t, "the ports to be closed", func() bool {
		r.data.mu.Lock()
		defer r.data.mu.Unlock()
		return len(r.data.open) == 0
	})
}

// TestFTPPassivePorts offers ports of a range alone, to several clients at once, and all of them where TLS hides what is negotiated.
func TestFTPPassivePorts(t *testing.T) {
	r := startRelay(t)
	port := freePort(t)
	number, _ := strconv.Atoi(port)
	server, front := ftpServer(t, "127.0.0.2:0", port), "127.0.0.1:"+freePort(t)
	f := ftpForward(t, "ftp", front, server)
	f.PassivePorts = forward.Range{First: uint16(number), Last: uint16(number)}
	apply(t, r, f)
	want := netip.MustParseAddrPort("127.0.0.1:" + port)
	client := dialFTP(t, front)
	for range 3 {
		if at := client.offered("PASV"); at != want {
			t.Fatalf("offered %s, want %s", at, want)
		}
		data := dial(t, "tcp", want.String())
		client.say("DATA", "150")
		client.expect("200")
		ask(t, data, "hello")
		data.Close()
	}
	client.offered("PASV")
	client.say("PASV", "425") // the only port is taken, by this client
	client.Close()
	eventually(t, "the session to end", func() bool { return r.Stats()["ftp"].Open == 0 })

	client = dialFTP(t, front)
	client.say("AUTH TLS", "234")
	client.say("PASV", "227 (10,9,8,7,") // as if it were TLS
	turnedAwayAt(t, "127.0.0.3", want.String())
	data := dial(t, "tcp", want.String())
	client.say("DATA", "150")
	client.expect("200")
	ask(t, data, "hello")
	if n := len(sessionsOf(r)); n != 2 {
		t.Errorf("%d sessions", n)
	}
	client.Close()
	eventually(t, "the ports to be closed", func() bool {
		r.data.mu.Lock()
		defer r.data.mu.Unlock()
		return len(r.data.open) == 0
	})
	ask(t, data, "still here")
}

// TestFTPIdle keeps a session whose data connection is busy, and ends one that is idle.
func TestFTPIdle(t *testing.T) {
	r := startRelay(t)
	server, front := ftpServer(t, "127.0.0.2:0", "0"), "127.0.0.1:"+freePort(t)
	f := ftpForward(t, "ftp", front, server)
	f.IdleTimeout = 2 * time.Second // so long that a busy machine does not hold up the test for that time
	apply(t, r, f)
	client := dialFTP(t, front)
	data := client.passive("EPSV")
	for end := time.Now().Add(2 * f.IdleTimeout); time.Now().Before(end); time.Sleep(f.IdleTimeout / 50) {
		ask(t, data, "x")
	}
	client.say("NOOP", "200")
	data.Close()
	_, _ = io.Copy(io.Discard, client.lines) // until it ends, by a reset or, where the server's side went first, in order
	eventually(t, "the session to end", func() bool { return r.Stats()["ftp"].Open == 0 })
}
