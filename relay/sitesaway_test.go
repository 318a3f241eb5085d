package relay

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
	"github.com/fairlead-net/fairlead/node/host"
)

// TestNamesAway shows a page in place of a target that does not answer.
func TestNamesAway(t *testing.T) {
	page := filepath.Join(t.TempDir(), "away.html")
	if err := os.WriteFile(page, []byte("<h1>gone fishing</h1>"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := startRelay(t)
	port, nobody := freePort(t), freePort(t)
	broken := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) { c.Close() })
	apply(t, r,
		named(t, "a", port, "127.0.0.1:"+nobody, forward.Site{AwayPage: page}, "a.example"),
		named(t, "b", port, "127.0.0.1:"+nobody, forward.Site{}, "b.example"),
		named(t, "c", port, broken.String(), forward.Site{}, "c.example"))
	for _, one := range []struct {
		host, want string
		status     int
	}{{"a.example", "gone fishing", 503}, {"b.example", "is away", 503}, {"c.example", "is away", 502}} {
		conn, reader := callPort(t, port)
		io.WriteString(conn, fetching("/", one.host))
		res, err := http.ReadResponse(reader, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		if res.StatusCode != one.status || !strings.Contains(string(body), one.want) || res.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %d %v %s", one.host, res.StatusCode, res.Header, body)
		}
		conn.Close()
	}
	if result := r.Apply(t.Context(), forward.ListOf(named(t, "a", port, ":1", forward.Site{AwayPage: page + "x"}, "a.example"))); result["a"] == nil {
		t.Error("a page that is not there is no error")
	}
}

// remoteNode dials as another host does: with no sockets of this one's, and sometimes not at all.
type remoteNode struct {
	node.Node
	away atomic.Bool
}

type remoteConn struct{ net.Conn }

func (c remoteConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

func (n *remoteNode) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	if n.away.Load() {
		return nil, errors.New("the agent is away")
	}
	conn, err := n.Node.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return remoteConn{conn}, nil
}

// TestNamesViaNode dials from another node than this host, HTTP and TLS that passes.
func TestNamesViaNode(t *testing.T) {
	far := &remoteNode{Node: host.New()}
	r := start(t, far, Options{Nodes: func(name string) (node.Node, error) {
		if name == "far" {
			return far, nil
		}
		return far.Node, nil
	}})
	port := freePort(t)
	site, pool := certificate(t, "b.example")
	pair, err := tls.LoadX509KeyPair(site.Cert, site.Key)
	if err != nil {
		t.Fatal(err)
	}
	secure := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
		io.Copy(server, server)
		server.CloseWrite()
	})
	a, b := named(t, "a", port, echoSite(t, "a"), forward.Site{}, "a.example"), named(t, "b", port, secure.String(), forward.Site{}, "b.example")
	a.Via, b.Via = "far", "far"
	apply(t, r, a, b)
	conn, reader := callPort(t, port)
	if status, body := request(t, conn, reader, fetching("/", "a.example")); status != 200 || !strings.HasPrefix(body, "site=a") {
		t.Errorf("%d %s", status, body)
	}
	c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: "b.example", RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	io.WriteString(c, "hello")
	c.CloseWrite()
	if back, err := io.ReadAll(c); err != nil || string(back) != "hello" {
		t.Errorf("%q, %v", back, err)
	}
	c.Close()
	far.away.Store(true)
	other, otherReader := callPort(t, port)
	if status, body := request(t, other, otherReader, fetching("/", "a.example")); status != 503 || !strings.Contains(body, "is away") {
		t.Errorf("while the agent is away: %d %s", status, body)
	}
	far.away.Store(false)
	if status, _ := request(t, other, otherReader, fetching("/", "a.example")); status != 200 {
		t.Errorf("when it is back: %d", status)
	}
}

// TestNamesAndProxyHeaders has a proxy in front that says who the client is, and targets that want to know.
func TestNamesAndProxyHeaders(t *testing.T) {
	r := startRelay(t)
	port := freePort(t)
	said := make(chan string, 4)
	target := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		reader := bufio.NewReader(c)
		line, _ := reader.ReadString('\n')
		said <- strings.TrimSpace(line)
		req, err := http.ReadRequest(reader)
		if err != nil {
			return
		}
		said <- req.Header.Get("X-Forwarded-For")
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		io.Copy(io.Discard, reader)
	})
	f := named(t, "a", port, target.String(), forward.Site{}, "a.example")
	f.SendProxy, f.AcceptProxy = 1, prefixes("127.0.0.0/8")
	apply(t, r, f)
	conn, reader := callPort(t, port)
	if status, _ := request(t, conn, reader, "PROXY TCP4 192.0.2.7 192.0.2.8 4711 443\r\n"+fetching("/", "a.example", "X-Forwarded-For: 1.1.1.1")); status != 200 {
		t.Fatal(status)
	}
	if line, from := <-said, <-said; line != "PROXY TCP4 192.0.2.7 192.0.2.8 4711 443" || from != "192.0.2.7" {
		t.Errorf("the target was told %q, and %q", line, from)
	}
	bare, _ := callPort(t, port)
	io.WriteString(bare, fetching("/", "a.example"))
	bare.SetDeadline(time.Now().Add(patience))
	if _, err := bare.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("without a header: %v", err)
	}
}

// earListener reads a little of each client before it is accepted, as one does that shares its port with another server.
type earListener struct{ net.Listener }

type heardConn struct {
	net.Conn
	read []byte
}

func (l earListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	read := make([]byte, 3)
	n, err := io.ReadFull(conn, read)
	return &heardConn{conn, read[:n]}, err
}

func (c *heardConn) Take() (net.Conn, []byte) { return c.Conn, c.read }

type earNode struct{ node.Node }

func (n earNode) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	l, err := n.Node.Listen(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return earListener{l}, nil
}

// TestNamesOnAnothersPort has listeners that have read of a client already: nothing of that is lost.
func TestNamesOnAnothersPort(t *testing.T) {
	site, pool := certificate(t, "b.example")
	pair, err := tls.LoadX509KeyPair(site.Cert, site.Key)
	if err != nil {
		t.Fatal(err)
	}
	secure := serve(t, "tcp", "127.0.0.1:0", func(c net.Conn) {
		server := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
		io.Copy(server, server)
	})
	plain := serve(t, "tcp", "127.0.0.1:0", echo)
	here := host.New()
	r := start(t, here, Options{Nodes: func(string) (node.Node, error) { return &connecting{earNode{here}, here}, nil }})
	port, other := freePort(t), freePort(t)
	f := fwd(t, "plain", other, plain.String())
	apply(t, r, named(t, "a", port, echoSite(t, "a"), forward.Site{}, "a.example"), named(t, "b", port, secure.String(), forward.Site{}, "b.example"), f)
	conn, reader := callPort(t, port)
	if status, body := request(t, conn, reader, fetching("/", "a.example")); status != 200 || !strings.HasPrefix(body, "site=a") {
		t.Errorf("%d %s", status, body)
	}
	c, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{ServerName: "b.example", RootCAs: pool})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "hello")
	if back := make([]byte, 5); true {
		if _, err := io.ReadFull(c, back); err != nil || string(back) != "hello" {
			t.Errorf("%q, %v", back, err)
		}
	}
	bare := dial(t, "tcp", "127.0.0.1:"+other)
	ask(t, bare, "whole")
}

// connecting is a node that dials as this host does, sockets included.
type connecting struct {
	earNode
	*host.Node
}

func (c *connecting) Listen(ctx context.Context, network, addr string) (net.Listener, error) {
	return c.earNode.Listen(ctx, network, addr)
}

func (c *connecting) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return c.Node.Dial(ctx, network, addr)
}
