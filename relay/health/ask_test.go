package health

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// answering serves every connection with handle until the test ends.
func answering(t *testing.T, handle func(net.Conn)) DialFunc {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
	}
}

func httpCheck(t *testing.T, url string) forward.Check {
	t.Helper()
	c, err := forward.ParseCheck(url)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAskHTTP(t *testing.T) {
	for answer, want := range map[string]string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":                                "",
		"HTTP/1.0 204 No Content\r\n\r\n":                                               "",
		"HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/away\r\n\r\n":                 "", // and nobody goes there
		"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n":     "",
		"HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 1<<20):                          "",
		"HTTP/1.1 404 \x1b[31mred\r\nContent-Length: 0\r\n\r\n":                         "it answers GET /health?x=1 with 404 Not Found",
		"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n":                 "it answers GET /health?x=1 with 503 Service Unavailable",
		"HTTP/1.1 599 Odd\r\nContent-Length: 0\r\n\r\n":                                 "it answers GET /health?x=1 with 599",
		"SSH-2.0-OpenSSH_9.6\r\n":                                                       "it does not speak HTTP",
		"":                                                                              "it closes the connection instead of answering GET",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 2*maxAnswer) + "\r\n\r\n":        "it closes the connection instead of answering GET",
		"HTTP/1.1 200 OK\r\nX: " + strings.Repeat("x", 100) + "\r\n" /* and no more */ : "it closes the connection instead of answering GET",
	} {
		dial := answering(t, func(c net.Conn) {
			req, err := http.ReadRequest(bufio.NewReader(c))
			if err != nil || req.Host != "app.example:8080" || req.RequestURI != "/health?x=1" || req.Method != http.MethodGet {
				t.Errorf("the target was asked %+v, %v", req, err)
			}
			_, _ = io.WriteString(c, answer)
		})
		got := ""
		if err := Ask(t.Context(), httpCheck(t, "http://app.example:8080/health?x=1"), dial); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%.40q: %q, want %q", answer, got, want)
		}
	}
}

func TestAskWhoSaysNothing(t *testing.T) {
	dial := answering(t, func(c net.Conn) { _, _ = io.Copy(io.Discard, c) })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := Ask(ctx, httpCheck(t, "http://app.example/"), dial)
	if want := "it accepts connections and does not answer GET"; err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := Ask(t.Context(), forward.Check{Kind: forward.CheckConnect}, dial); err != nil {
		t.Errorf("it accepts connections: %v", err)
	}
}

func TestAskWhoIsNotThere(t *testing.T) {
	away := &net.OpError{Op: "dial", Err: io.ErrUnexpectedEOF}
	dial := func(context.Context) (net.Conn, error) { return nil, away }
	for _, c := range []forward.Check{{Kind: forward.CheckConnect}, httpCheck(t, "http://app.example/")} {
		if err := Ask(t.Context(), c, dial); err != error(away) {
			t.Errorf("%v: %v, want what the dial said", c, err)
		}
	}
}
