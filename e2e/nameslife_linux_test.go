package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// echoSocket is a WebSocket server (RFC 6455) that sends back what it gets, in the simplest form.
const echoSocket = `
import base64, hashlib, socket, sys, threading
def exactly(c, n):
    b = b""
    while len(b) < n:
        d = c.recv(n - len(b))
        if not d: raise EOFError
        b += d
    return b
def serve(c):
    head = b""
    while b"\r\n\r\n" not in head: head += exactly(c, 1)
    key = [l.split(b":", 1)[1].strip() for l in head.split(b"\r\n") if l.lower().startswith(b"sec-websocket-key:")][0]
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    c.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n")
    try:
        while True:
            first, n = exactly(c, 2)
            mask, data = exactly(c, 4), exactly(c, n & 0x7f)
            data = bytes(x ^ mask[i % 4] for i, x in enumerate(data))
            c.sendall(bytes([first, len(data)]) + data)
    except EOFError:
        c.close()
s = socket.create_server(("0.0.0.0", int(sys.argv[1])))
while True:
    threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
`

// callSocket is a client of it, over TLS.
const callSocket = `
import os, socket, ssl, sys, time
where, name, ca = sys.argv[1:4]
context = ssl.create_default_context(cafile=ca)
context.set_alpn_protocols(["http/1.1"])
c = context.wrap_socket(socket.create_connection((where, 443), timeout=10), server_hostname=name)
c.sendall(("GET /chat HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n" % name).encode())
f = c.makefile("rb")
assert b" 101 " in f.readline()
while f.readline() != b"\r\n": pass
for i in range(200):
    text = b"message %d" % i
    c.sendall(bytes([0x81, 0x80 | len(text)]) + b"\0\0\0\0" + text)
    assert f.read(2) == bytes([0x81, len(text)]), i
    assert f.read(len(text)) == text, i
print("all came back")
`

// twoWays sends requests that two servers could read in two ways, over one connection each, and prints the status of each answer
// and what the site says.
const twoWays = `
import re, socket, sys
for text in [
    "GET /1 HTTP/1.1\r\nHost: a.example.com\r\nHost: b.example.com\r\n\r\n",
    "GET http://b.example.com/2 HTTP/1.1\r\nHost: a.example.com\r\nConnection: close\r\n\r\n",
    "GET /3 HTTP/1.1\r\nHost: a.example.com\r\n Host: b.example.com\r\n\r\n",
    "GET /4 HTTP/1.1\r\nHost: a.example.com\nHost: b.example.com\r\n\r\n",
    "GET /5\r\nHost:b.example.com HTTP/1.1\r\nHost: a.example.com\r\n\r\n",
    "POST /6 HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\nConnection: close\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: b.example.com\r\n\r\n",
    "POST /7 HTTP/1.1\r\nHost: a.example.com\r\nTransfer-Encoding: xchunked\r\nContent-Length: 4\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: b.example.com\r\n\r\n",
    "POST /8 HTTP/1.1\r\nHost: a.example.com\r\nContent-Length: +4\r\n\r\nabcd",
    "GET /9 HTTP/1.1\r\nHost: a.example.com\x00b.example.com\r\n\r\n",
]:
    c = socket.create_connection((sys.argv[1], 80), timeout=10)
    c.sendall(text.encode("latin-1"))
    c.settimeout(20)
    got = b""
    try:
        while True:
            d = c.recv(65536)
            if not d: break
            got += d
    except OSError: pass
    print(" ".join(re.findall(r"HTTP/1\.1 (\d+)", got.decode("latin-1"))), re.findall(r"site=(\w+)", got.decode("latin-1")))
`

// TestNamesLife has what lives long, and who means ill: WebSockets over TLS that ends here, requests that can be read in two ways, and
// hundreds of clients that take their time.
func TestNamesLife(t *testing.T) {
	needs(t, "curl", "nginx", "python3", "slowhttptest")
	lab := netlab.Gateway(t)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t, dir, "chat", "chat.example.com")
	scripts := map[string]string{}
	for name, text := range map[string]string{"serve": echoSocket, "call": callSocket, "two": twoWays} {
		scripts[name] = filepath.Join(dir, name+".py")
		write(t, scripts[name], text)
	}
	site(t, lab.Server, "a", 8081, "", "")
	site(t, lab.Server, "b", 8082, "", "")
	lab.Server.Start(t, "python3", scripts["serve"], "8083")
	lab.Server.WaitListen(t, "tcp", 8083)
	d := up(t, lab.Host, fmt.Sprintf(`
[forward.a]
listen = "80"
to = "192.168.1.10:8081"
host = "a.example.com"
[forward.b]
listen = "80"
to = "192.168.1.10:8082"
host = "b.example.com"
[forward.chat]
listen = "443"
to = "192.168.1.10:8083"
host = "chat.example.com"
cert = %q
key = %q
`, cert, key))
	if out := lab.Client.Run(t, "python3", scripts["call"], netlab.RouterWAN4, "chat.example.com", cert); !strings.Contains(out, "all came back") {
		t.Error(out)
	}

	out := strings.Split(strings.TrimSpace(lab.Client.Run(t, "python3", scripts["two"], netlab.RouterWAN4)), "\n")
	for i, want := range []string{"400 []", "200 ['b']", "400 []", "400 []", "400 []", "200 ['a']", "501 []", "400 []", "400 []"} {
		if i >= len(out) || out[i] != want {
			t.Errorf("request %d: %q, want %q", i+1, out[min(i, len(out)-1)], want)
		}
	}

	// While slow clients hold connections open, others are served; and the slow ones are sent away.
	slow := lab.Client.Start(t, "slowhttptest", "-c", "300", "-H", "-i", "2", "-r", "300", "-l", "12", "-u", "http://"+netlab.RouterWAN4+"/", "-p", "3")
	waitFor(t, "the slow ones are there", func() bool { return strings.Contains(slow.Output(), "connected:") })
	for range 5 {
		if out := lab.Client.Run(t, "curl", append(resolve("a.example.com"), "http://a.example.com/")...); !strings.HasPrefix(out, "site=a") {
			t.Error(out)
		}
		time.Sleep(200 * time.Millisecond)
	}
	select {
	case <-slow.Done():
	case <-time.After(30 * time.Second):
		t.Error("slowhttptest does not end")
	}
	if !strings.Contains(slow.Output(), "closed:") {
		t.Errorf("nobody was sent away:\n%s", slow.Output())
	}
	waitFor(t, "no session is left", func() bool {
		s := d.status()
		return s["a"].Connections.Open == 0 && s["chat"].Connections.Open == 0
	})
}
