package link

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/fairlead-net/fairlead/tunnel"
)

// program is where one is that a test needs, or the end of the test.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatalf("%s is not installed, and FAIRLEAD_NETNS=require", name)
		}
		t.Skipf("%s is not installed", name)
	}
	return path
}

// TestRealProxies: the hub is behind proxies that others have written, on the only host that the agent can reach.
func TestRealProxies(t *testing.T) {
	for _, c := range []struct {
		name, url  string
		transports []string
		start      func(t *testing.T, f *far)
	}{
		{"tinyproxy", "http://anna:s3cret@192.0.2.1:3128", []string{TLS, WSS}, func(t *testing.T, f *far) {
			file := filepath.Join(t.TempDir(), "tinyproxy.conf")
			text := "Port 3128\nListen 192.0.2.1\nTimeout 60\nBasicAuth anna s3cret\nConnectPort 443\nMaxClients 20\n"
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f.hub.Start(t, program(t, "tinyproxy"), "-d", "-c", file)
			f.hub.WaitListen(t, "tcp", 3128)
		}},
		{"microsocks", "socks5://anna:s3cret@192.0.2.1:1080", []string{TLS, WSS}, func(t *testing.T, f *far) {
			f.hub.Start(t, program(t, "microsocks"), "-i", "192.0.2.1", "-p", "1080", "-u", "anna", "-P", "s3cret")
			f.hub.WaitListen(t, "tcp", 1080)
		}},
		{"danted", "socks5://192.0.2.1:1080", Transports(), func(t *testing.T, f *far) {
			file := filepath.Join(t.TempDir(), "danted.conf")
			text := `errorlog: stderr
internal: 192.0.2.1 port = 1080
external: 192.0.2.1
clientmethod: none
socksmethod: none
user.privileged: root
user.unprivileged: nobody
client pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
socks pass { from: 0.0.0.0/0 to: 0.0.0.0/0 }
`
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			f.hub.Start(t, program(t, "danted"), "-f", file)
			f.hub.WaitListen(t, "tcp", 1080)
		}},
	} {
		for _, transport := range c.transports {
			t.Run(fmt.Sprint(c.name, " ", transport), func(t *testing.T) {
				program(t, c.name)
				f := newFar(t, netlabPlain)
				c.start(t, f)
				d := dialer(t, f.b, func(o *DialOptions) { o.Hub, o.Proxy, o.Transports = f.d.Hub, c.url, []string{transport} })
				d.in = f.agent.Do
				agent, err := d.Dial(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer agent.Close()
				if agent.Remote().Addr().String() != "192.0.2.1" || agent.Transport() != transport || transport == QUIC && agent.Remote().Port() == 443 {
					t.Errorf("by %s to %s", agent.Transport(), agent.Remote())
				}
				hubEnd, err := f.b.Accept(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				defer hubEnd.Close()
				if hubEnd.Remote().Addr().String() != "192.0.2.1" {
					t.Errorf("the agent comes from %s, which is not the proxy", hubEnd.Remote())
				}
				a, h := lanes(t, agent, hubEnd)
				converse(t, a, h)
				if transport == QUIC {
					bulk(t, a, h)
				}
			})
		}
	}
}

// bulk has the hub send a mebibyte.
func bulk(t *testing.T, a, h tunnel.Lane) {
	t.Helper()
	want := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	sent := make(chan error, 1)
	go func() {
		_, err := h.Write(want)
		sent <- err
	}()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(a, got); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a mebibyte: %v", err)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
}
