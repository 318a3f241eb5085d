package ftp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"
)

// A fakeEnv gives out ports of documentation addresses.
type fakeEnv struct {
	clientSide, serverSide netip.Addr
	err                    error

	mu      sync.Mutex
	asked   []string
	begun   int // transfers
	in, out int
}

func (e *fakeEnv) Passive(_ context.Context, port uint16) (netip.AddrPort, error) {
	return e.open("passive", port, netip.AddrPortFrom(e.clientSide, 50000))
}

func (e *fakeEnv) Active(_ context.Context, port uint16) (netip.AddrPort, error) {
	return e.open("active", port, netip.AddrPortFrom(e.serverSide, 40000))
}

func (e *fakeEnv) open(what string, port uint16, at netip.AddrPort) (netip.AddrPort, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asked = append(e.asked, fmt.Sprint(what, " ", port))
	return at, e.err
}

func (e *fakeEnv) Connected(context.Context) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.begun++
}

func (e *fakeEnv) Count(in, out int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.in, e.out = e.in+in, e.out+out
}

// A dialogue is a control connection with both ends in the hands of a test.
type dialogue struct {
	t              testing.TB
	client, server net.Conn // the test's ends
	fromServer     *bufio.Reader
	fromClient     *bufio.Reader
	env            *fakeEnv
	outcome        Outcome
	err            error
	cancel         context.CancelFunc
	done           chan struct{}
}

func pair(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	deadline := time.Now().Add(10 * time.Second)
	_ = a.SetDeadline(deadline)
	return a, b
}

var (
	client4, server4 = netip.MustParseAddr("203.0.113.10"), netip.MustParseAddr("192.168.1.10")
	client6, server6 = netip.MustParseAddr("2001:db8::10"), netip.MustParseAddr("fd00::10")
	near4, far4      = netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("192.168.1.1")
	near6, far6      = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fd00::1")
)

func begin(t testing.TB, client, server netip.Addr) *dialogue {
	t.Helper()
	d := &dialogue{t: t, env: &fakeEnv{clientSide: near4, serverSide: far4}, done: make(chan struct{})}
	if client.Is6() {
		d.env.clientSide = near6
	}
	if server.Is6() {
		d.env.serverSide = far6
	}
	var near, far net.Conn
	d.client, near = pair(t)
	d.server, far = pair(t)
	d.fromServer, d.fromClient = bufio.NewReader(d.client), bufio.NewReader(d.server)
	ctx, cancel := context.WithCancel(t.Context())
	d.cancel = cancel
	go func() {
		defer close(d.done)
		d.outcome, d.err = Serve(ctx, near, far, Ends{client, server}, d.env)
		if !d.outcome.Opaque {
			near.Close()
			far.Close()
		}
	}()
	return d
}

// say is what the client says and what the server is to hear; nothing, where that is "".
func (d *dialogue) say(line, heard string) {
	d.t.Helper()
	io.WriteString(d.client, line+"\r\n")
	d.hears(heard)
}

func (d *dialogue) hears(heard string) {
	d.t.Helper()
	if heard == "" {
		return
	}
	if got, err := d.fromClient.ReadString('\n'); got != heard+"\r\n" {
		d.t.Errorf("the server hears %q (%v), expected %q", got, err, heard)
	}
}

// reply is what the server replies and what the client is to hear.
func (d *dialogue) reply(line, heard string) {
	d.t.Helper()
	io.WriteString(d.server, line+"\r\n")
	d.told(heard)
}

func (d *dialogue) told(heard string) {
	d.t.Helper()
	if got, err := d.fromServer.ReadString('\n'); got != heard+"\r\n" {
		d.t.Errorf("the client hears %q (%v), expected %q", got, err, heard)
	}
}

// end ends the dialogue the way servers do.
func (d *dialogue) end() {
	d.t.Helper()
	d.server.Close()
	<-d.done
	if d.err != nil || d.outcome.Opaque {
		d.t.Errorf("it ends with %+v, %v", d.outcome, d.err)
	}
}

func (d *dialogue) asked(want ...string) {
	d.t.Helper()
	d.env.mu.Lock()
	defer d.env.mu.Unlock()
	if got, want := strings.Join(d.env.asked, ", "), strings.Join(want, ", "); got != want {
		d.t.Errorf("asked for: %s; expected %s", got, want)
	}
}

func TestPassive(t *testing.T) {
	d := begin(t, client4, server4)
	d.reply("220 hello", "220 hello")
	d.say("PASV", "PASV")
	d.reply("227 Entering Passive Mode (10,0,0,99,200,10).", "227 Entering Passive Mode (203,0,113,1,195,80).")
	d.say("epsv", "epsv")
	d.reply("229 Entering Extended Passive Mode (|||51211|)", "229 Entering Extended Passive Mode (|||50000|)")
	d.say("EPSV 1", "EPSV 1")
	d.reply("229 ok (|||51212|)", "229 Entering Extended Passive Mode (|||50000|)")
	d.say("EPSV 2", "")
	d.told("522 Network protocol not supported, use (1)")
	d.say("EPSV ALL", "EPSV ALL")
	d.reply("200 ok", "200 ok")
	d.say("PASV", "PASV")
	d.reply("227 (192,168,1,10,3,1)", "425 The server has named no port that a data connection can use.")
	d.say("PASV", "PASV")
	d.reply("227 I shall not say", "425 The server has named no port that a data connection can use.")
	d.say("PASV", "PASV")
	d.reply("500 no", "500 no")
	d.reply("227 nobody asked (192,168,1,10,200,10)", "227 nobody asked (192,168,1,10,200,10)")
	d.env.mu.Lock()
	d.env.err = errors.New("full")
	d.env.mu.Unlock()
	d.say("PASV", "PASV")
	d.reply("227 (192,168,1,10,200,12)", "425 No port can be opened for a data connection.")
	d.asked("passive 51210", "passive 51211", "passive 51212", "passive 51212")
	d.say("QUIT", "QUIT")
	d.reply("221 bye", "221 bye")
	d.end()
	if d.env.in == 0 || d.env.out == 0 {
		t.Errorf("counted: %d in, %d out", d.env.in, d.env.out)
	}
}

func TestActive(t *testing.T) {
	d := begin(t, client4, server4)
	d.reply("220-hello\r\n230 not the end\r\n220-still\r\n220 hello", "220-hello")
	d.told("230 not the end")
	d.told("220-still")
	d.told("220 hello")
	d.say("PORT 203,0,113,10,200,10", "PORT 192,168,1,1,156,64")
	d.reply("200 ok", "200 ok")
	d.say("eprt |1|203.0.113.10|51211|", "EPRT |1|192.168.1.1|40000|")
	d.reply("200 ok", "200 ok")
	d.say("RETR a", "RETR a")
	d.reply("150-it\r\n150 begins", "150-it")
	d.told("150 begins")
	d.reply("226 done", "226 done")
	if d.env.mu.Lock(); d.env.begun != 1 {
		t.Errorf("the client was told %d times that one transfer begins", d.env.begun)
	}
	d.env.mu.Unlock()
	for line, answer := range map[string]string{
		"PORT 203,0,113,11,200,10":        "500 Data connections lead to the client itself.",
		" \tport\t127,0,0,1,200,10":       "500 Data connections lead to the client itself.",
		"PORT 203,0,113,10,0,22":          "504 Data connections use ports from 1024 on.",
		"PORT 203,0,113":                  "501 This is no address and port.",
		"EPRT |1|192.168.1.10|51211|":     "500 Data connections lead to the client itself.",
		"EPRT |2|::1|51211|":              "500 Data connections lead to the client itself.",
		"EPRT |3|x|51211|":                "522 Network protocol not supported, use (1)",
		"LPRT 4,4,203,0,113,10,2,200,10":  "502 Not possible here; use EPRT and EPSV.",
		"LPSV":                            "502 Not possible here; use EPRT and EPSV.",
		"NOOP\x00PORT 10,0,0,1,0,22":      "500 A byte of this line has no place in a command.",
		strings.Repeat("x", 3*maxLine+17): "500 This line is too long.",
	} {
		d.say(line, "")
		d.told(answer)
	}
	d.env.mu.Lock()
	d.env.err = fmt.Errorf("no: %w", ErrUnfit)
	d.env.mu.Unlock()
	d.say("PORT 203,0,113,10,200,10", "")
	d.told("502 The server cannot call back by this way; use passive mode.")
	d.asked("active 51210", "active 51211", "active 51210")
	d.say("NOOP", "NOOP")
	d.end()
}

// TestFamilies leads clients of one family to a server of the other.
func TestFamilies(t *testing.T) {
	d := begin(t, client6, server4)
	d.reply("220 hello", "220 hello")
	d.say("EPRT |2|2001:db8::10|51211|", "PORT 192,168,1,1,156,64")
	d.reply("200 ok", "200 ok")
	d.say("EPSV 2", "EPSV 1")
	d.reply("229 (|||51211|)", "229 Entering Extended Passive Mode (|||50000|)")
	d.say("PASV", "")
	d.told("425 PASV is for IPv4 alone; use EPSV.")
	d.end()

	d = begin(t, client4, server6)
	d.reply("220 hello", "220 hello")
	d.say("PORT 203,0,113,10,200,10", "EPRT |2|fd00::1|40000|")
	d.reply("200 ok", "200 ok")
	d.say("PASV", "EPSV")
	d.reply("229 (|||51211|)", "227 Entering Passive Mode (203,0,113,1,195,80).")
	d.say("EPSV 1", "EPSV 2")
	d.reply("229 (|||51212|)", "229 Entering Extended Passive Mode (|||50000|)")
	d.asked("active 51210", "passive 51211", "passive 51212")
	d.end()

	d = begin(t, client6, netip.Addr{}) // a server that another node looks up
	d.reply("220 hello", "220 hello")
	d.say("EPSV 2", "EPSV 2")
	d.reply("229 (|||51211|)", "229 Entering Extended Passive Mode (|||50000|)")
	d.end()
}

// TestPipelining keeps replies in the order of their commands, whoever replies.
func TestPipelining(t *testing.T) {
	d := begin(t, client4, server4)
	d.say("USER a\r\nPORT 10,0,0,1,200,10\r\nPASV\r\nLPSV\r\nRETR x", "USER a")
	d.hears("PASV")
	d.hears("RETR x")
	d.reply("220 hello", "220 hello")
	d.reply("331 go on", "331 go on")
	d.told("500 Data connections lead to the client itself.")
	io.WriteString(d.server, "227 (192,168,1,") // a reply in pieces
	d.reply("10,200,10)", "227 Entering Passive Mode (203,0,113,1,195,80).")
	d.told("502 Not possible here; use EPRT and EPSV.")
	d.reply("150 here it comes", "150 here it comes")
	d.say("\xff\xf4\xff\xf2ABOR", "ABOR")
	d.reply("426 ended", "426 ended")
	d.reply("226 done", "226 done")
	d.reply("226 once more", "226 once more") // unasked for
	d.say("PASV", "PASV")
	d.reply("227 (192,168,1,10,200,10)", "227 Entering Passive Mode (203,0,113,1,195,80).")
	// A server that replies to less than it should.
	d.say("NOOP\r\nABOR\r\nPASV", "NOOP")
	d.hears("ABOR")
	d.hears("PASV")
	d.reply("227 (192,168,1,10,200,10)", "227 Entering Passive Mode (203,0,113,1,195,80).")
	d.say(strings.Repeat("NOOP\r\n", 3*maxOutstanding)+"QUIT", "NOOP")
	for range 3*maxOutstanding - 1 {
		d.reply("200 ok", "200 ok")
		d.hears("NOOP")
	}
	d.hears("QUIT")
	long := "200 " + strings.Repeat("y", 3*maxLine)
	d.reply(long, long)
	d.end()
}

func TestTLS(t *testing.T) {
	d := begin(t, client4, server4)
	d.reply("220 hello", "220 hello")
	d.say("AUTH TLS", "AUTH TLS")
	d.reply("500 no", "500 no")
	d.say("AUTH TLS\r\n\x16\x03\x01PORT 1,2,3,4,5,6", "AUTH TLS")
	d.reply("234 go", "234 go")
	<-d.done
	if d.err != nil || !d.outcome.Opaque || string(d.outcome.ToServer) != "\x16\x03\x01PORT 1,2,3,4,5,6\r\n" || len(d.outcome.ToClient) != 0 {
		t.Errorf("%+v, %v", d.outcome, d.err)
	}

	d = begin(t, client4, server4)
	io.WriteString(d.client, "\x16\x03\x01hello")
	<-d.done
	if d.err != nil || !d.outcome.Opaque || string(d.outcome.ToServer) != "\x16\x03\x01hello" {
		t.Errorf("%+v, %v", d.outcome, d.err)
	}
}

// TestEndings ends a session from either side and from outside.
func TestEndings(t *testing.T) {
	d := begin(t, client4, server4)
	d.reply("220 hello", "220 hello")
	d.client.(*net.TCPConn).CloseWrite()
	if rest, err := io.ReadAll(d.fromClient); err != nil || len(rest) > 0 {
		t.Errorf("the server hears %q, %v", rest, err)
	}
	d.reply("221 bye", "221 bye")
	d.end()

	d = begin(t, client4, server4)
	d.say("AUTH TLS", "AUTH TLS")
	d.end() // while the client waits

	d = begin(t, client4, server4)
	d.cancel()
	<-d.done

	d = begin(t, client4, server4)
	d.client.(*net.TCPConn).SetLinger(0)
	d.client.Close()
	<-d.done
	if d.err == nil {
		t.Error("a reset is no error")
	}
}

// FuzzServe has both sides say anything at all.
func FuzzServe(f *testing.F) {
	f.Add([]byte("USER a\r\nPASV\r\nPORT 203,0,113,10,200,10\r\n"), []byte("220 hello\r\n331 x\r\n227 (1,2,3,4,200,10)\r\n"))
	f.Add([]byte("AUTH TLS\r\n\x16\x03"), []byte("220-a\r\n220 b\r\n234 c\r\n"))
	f.Add([]byte("\xff\xf4\xff\xf2ABOR\r\nEPSV\r\nEPRT |1|203.0.113.10|2000|\r\n"), []byte("220\r\n229 (|||6446|)\r\n"))
	f.Fuzz(func(t *testing.T, says, replies []byte) {
		env := &fakeEnv{clientSide: near4, serverSide: far4}
		client, server := &script{r: bytes.NewReader(says)}, &script{r: bytes.NewReader(replies)}
		_, _ = Serve(t.Context(), client, server, Ends{client4, server4}, env)
		for _, asked := range env.asked {
			var what string
			var port int
			if _, err := fmt.Sscan(asked, &what, &port); err != nil || port < minPort {
				t.Errorf("asked for %s", asked)
			}
		}
		if server.opaque() || len(says) > 0 && says[0] == tlsHandshake {
			return
		}
		for line := range strings.Lines(server.w.String()) { // no third host is named to the server
			verb, argument := split(line)
			at, err := parsePort(argument)
			if strings.EqualFold(verb, "EPRT") {
				at, err = parseExtended(argument)
			}
			if (strings.EqualFold(verb, "PORT") || strings.EqualFold(verb, "EPRT")) && (err != nil || at != netip.AddrPortFrom(far4, 40000)) {
				t.Errorf("the server hears %q", line)
			}
		}
	})
}

// A script is a connection whose other end has said everything already.
type script struct {
	net.Conn
	mu sync.Mutex
	r  *bytes.Reader
	w  bytes.Buffer
}

func (s *script) opaque() bool { return strings.Contains(strings.ToUpper(s.w.String()), "AUTH") }

func (s *script) Read(p []byte) (int, error) { return s.r.Read(p[:min(len(p), 7)]) }

func (s *script) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.w.Write(p)
}

func (s *script) Close() error                     { return nil }
func (s *script) CloseWrite() error                { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }
