package e2e

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// TestDatagramProtocols: protocols that live on datagrams, with loss, order and sizes of their own, work through the hub, by whatever carries them
// there, and go on after the home's address has changed.
func TestDatagramProtocols(t *testing.T) {
	needs(t, "nginx", "curl", "ping", "wg", "wireguard-go")
	for _, transport := range []string{"quic", "tls", "wss"} {
		t.Run(transport, func(t *testing.T) {
			l := newTunnelLab(t)
			hub := up(t, l.hub, hubFile)
			agentUp(t, hub, l.home, "home", fmt.Sprintf(`
transports = [%q]
[forward.wireguard]
at = "hub"
listen = "udp/51820"
to = "127.0.0.1:51820"
[forward.quic]
at = "hub"
listen = "udp/4433"
to = "192.168.1.10:4433"
`, transport))
			waitFor(t, "the hub listens", func() bool { return l.hub.Listening("udp", 51820) && l.hub.Listening("udp", 4433) })
			if got := hub.agents()["home"].Transport; got != transport {
				t.Errorf("the transport is %s", got)
			}
			roots := quicServer(t, l.nas)
			echoQUIC(t, l.visitor, roots, 4<<20)
			wireGuard(t, l.home, l.visitor)
			nginx(t, l.home, 8080)
			l.visitor.Run(t, "ping", "-q", "-c", "3", "-i", "0.2", "-w", "20", "10.8.0.1")
			l.visitor.Run(t, "ping", "-q", "-c", "3", "-i", "0.2", "-w", "20", "-s", "4000", "10.8.0.1") // three fragments within
			fetchWithin(t, l)
			l.readdress(homeAddr, "100.64.0.12")
			l.visitor.Run(t, "ping", "-q", "-c", "3", "-w", "30", "10.8.0.1")
			fetchWithin(t, l)
		})
	}
}

// fetchWithin has a visitor fetch a file by HTTP, within WireGuard.
func fetchWithin(t *testing.T, l *tunnelLab) {
	t.Helper()
	if got := l.curl("http://10.8.0.1:8080/big"); got != strings.Repeat("0123456789abcdef", 64<<10) {
		t.Errorf("%d bytes came, of another file", len(got))
	}
}

// wireGuard makes a tunnel between two nodes, 10.8.0.1 at home and 10.8.0.2 at who visits, who calls the hub. What they run is WireGuard in user space, of which a
// kernel need not know.
func wireGuard(t *testing.T, home, visitor *netlab.Node) {
	t.Helper()
	dir := t.TempDir()
	key := func(name string) (file, public string) {
		private := home.Run(t, "wg", "genkey")
		file = filepath.Join(dir, name)
		write(t, file, private)
		return file, strings.TrimSpace(home.Feed(t, private, "wg", "pubkey"))
	}
	homeFile, homeKey := key("home")
	visitorFile, visitorKey := key("visitor")
	for _, e := range []struct {
		node            *netlab.Node
		name, addr, key string
		set             []string
	}{
		{home, "flwghome", "10.8.0.1", homeFile, []string{"listen-port", "51820", "peer", visitorKey, "allowed-ips", "10.8.0.2/32"}},
		{visitor, "flwgaway", "10.8.0.2", visitorFile, []string{"peer", homeKey, "allowed-ips", "10.8.0.1/32", "endpoint", hubAddr + ":51820", "persistent-keepalive", "1"}},
	} {
		e.node.Start(t, "wireguard-go", "--foreground", e.name)
		waitFor(t, "WireGuard is there", func() bool { return e.node.Command(t.Context(), "wg", "show", e.name).Run() == nil })
		e.node.Run(t, "wg", append([]string{"set", e.name, "private-key", e.key}, e.set...)...)
		e.node.Run(t, "ip", "addr", "add", e.addr+"/24", "dev", e.name)
		e.node.Run(t, "ip", "link", "set", e.name, "mtu", "1420", "up")
	}
}

// quicServer says again what it hears on a stream of QUIC. It returns what its certificate is to be verified by.
func quicServer(t *testing.T, n *netlab.Node) *x509.CertPool {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"quic.example"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	socket, err := n.ListenPacket("udp", ":4433")
	if err != nil {
		t.Fatal(err)
	}
	ln, err := quic.Listen(socket, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}, NextProtos: []string{"echo"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ln.Close()
		socket.Close()
	})
	go func() {
		for {
			conn, err := ln.Accept(context.Background())
			if err != nil {
				return
			}
			go func() {
				stream, err := conn.AcceptStream(context.Background())
				if err != nil {
					return
				}
				_, _ = io.Copy(stream, stream)
				_ = stream.Close()
			}()
		}
	}()
	return pool
}

// echoQUIC sends size random bytes by QUIC through the hub, and wants them back.
func echoQUIC(t *testing.T, from *netlab.Node, roots *x509.CertPool, size int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	socket, err := from.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	conn, err := quic.Dial(ctx, socket, &net.UDPAddr{IP: net.ParseIP(hubAddr), Port: 4433}, &tls.Config{RootCAs: roots, ServerName: "quic.example", NextProtos: []string{"echo"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseWithError(0, "")
	stream, err := conn.OpenStreamSync(ctx)
	if err != nil {
		t.Fatal(err)
	}
	said := make([]byte, size)
	_, _ = rand.Read(said)
	go func() {
		_, _ = stream.Write(said)
		_ = stream.Close()
	}()
	heard, err := io.ReadAll(stream)
	if err != nil || !bytes.Equal(heard, said) {
		t.Errorf("%d bytes came back of %d, or others; %v", len(heard), size, err)
	}
}
