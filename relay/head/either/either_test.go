package either

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
	"github.com/fairlead-net/fairlead/relay/head/headtest"
	"github.com/fairlead-net/fairlead/relay/head/httpproxy"
	"github.com/fairlead-net/fairlead/relay/head/socks"
)

func TestBothOnOnePort(t *testing.T) {
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "hello "+r.URL.Path) }))
	defer web.Close()
	users := map[string]string{"joe": "secret"}
	addr := (&headtest.Server{Head: New(socks.New(), httpproxy.New(httpproxy.Options{})), Users: users}).Start(t)
	for _, args := range [][]string{
		{"--socks5", addr}, {"--socks5-hostname", addr}, {"-x", "http://" + addr}, {"-p", "-x", "http://" + addr},
	} {
		out, err := headtest.Run(t, nil, nil, "curl", append(args, "-sS", "--noproxy", "", "-U", "joe:secret", web.URL+"/a", web.URL+"/b")...)
		if err != nil || out != "hello /ahello /b" {
			t.Errorf("%v: %v: %s", args, err, out)
		}
	}
}

// TestFileBesideSOCKS has a port for SOCKS that serves the file for browsers, and is no HTTP proxy.
func TestFileBesideSOCKS(t *testing.T) {
	only := httpproxy.New(httpproxy.Options{PACOnly: true, PAC: func(called string) ([]byte, error) { return []byte("file for " + called), nil }})
	web := httptest.NewServer(http.NotFoundHandler())
	defer web.Close()
	server := &headtest.Server{Head: New(socks.New(), only)}
	addr := server.Start(t)
	out, err := headtest.Run(t, nil, nil, "curl", "-sS", "--noproxy", "*", "http://"+addr+"/proxy.pac")
	if err != nil || out != "file for "+addr {
		t.Errorf("%v: %s", err, out)
	}
	for _, args := range [][]string{{"-x", "http://" + addr, web.URL}, {"-p", "-x", "http://" + addr, web.URL}, {"http://" + addr + "/"}} {
		out, err := headtest.Run(t, nil, nil, "curl", append([]string{"-sSf", "--noproxy", ""}, args...)...)
		if err == nil {
			t.Errorf("%v: %s", args, out)
		}
	}
	if n := server.Dials.Load(); n != 0 {
		t.Errorf("%d connections were made", n)
	}
}

// fixed is a head that reads a little, and remembers who it is.
type fixed struct {
	n      int
	served *string
	name   string
}

func (f fixed) Serve(_ context.Context, client net.Conn, _ head.Env) (head.Outcome, error) {
	*f.served = f.name
	b := make([]byte, f.n)
	n, err := io.ReadFull(client, b)
	return head.Outcome{Ahead: b[:n]}, err
}

// TestNothingIsLost has heads that read less than was read before them, and more.
func TestNothingIsLost(t *testing.T) {
	for _, test := range []struct{ said, want string }{
		{"\x04abc", "socks"}, {"\x05", "socks"}, {"GET / HTTP/1.1", "http"}, {"\x16\x03", "http"}, {strings.Repeat("x", 5000), "http"}, {"", ""},
	} {
		for _, n := range []int{0, 1, 1024, 3000} {
			n = min(n, len(test.said))
			served := ""
			h := New(fixed{n, &served, "socks"}, fixed{n, &served, "http"})
			in := strings.NewReader(test.said)
			out, err := h.Serve(t.Context(), &reading{in: in}, nil)
			rest, _ := io.ReadAll(in)
			if got := string(out.Ahead) + string(rest); got != test.said || served != test.want || (err == nil) != (test.said != "") {
				t.Errorf("%.10q, %d: %q, %v by %q", test.said, n, got, err, served)
			}
		}
	}
}

type reading struct {
	net.Conn
	in io.Reader
}

func (r *reading) Read(b []byte) (int, error) { return r.in.Read(b) }

// TestOneByte has a client that says its first byte alone.
func TestOneByte(t *testing.T) {
	addr := (&headtest.Server{Head: New(socks.New(), httpproxy.New(httpproxy.Options{}))}).Start(t)
	for _, test := range []struct{ first, rest, want string }{
		{"\x05", "\x01\x00", "\x05\x00"}, {"G", "ET / HTTP/1.0\r\n\r\n", "HTTP/1.0 400"},
	} {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		c.SetDeadline(time.Now().Add(headtest.Patience))
		io.WriteString(c, test.first)
		time.Sleep(10 * time.Millisecond)
		io.WriteString(c, test.rest)
		got := make([]byte, len(test.want))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, []byte(test.want)) {
			t.Errorf("%q, %v, want %q", got, err, test.want)
		}
	}
}
