package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// haproxy starts one on a host, with what the configuration says besides timeouts, and waits for its port.
func haproxy(t *testing.T, n *netlab.Node, port int, conf string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "haproxy.cfg")
	write(t, file, "defaults\n  timeout connect 5s\n  timeout client 10s\n  timeout server 10s\n"+conf)
	n.Start(t, "haproxy", "-db", "-f", file)
	n.WaitListen(t, "tcp", port)
}

// certificate writes a key and a certificate of its own making for a name into one file.
func certificate(t *testing.T, name string) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	about := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, about, about, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "certificate.pem")
	write(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))+
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})))
	return file
}

// TestProxyExtensions has one HAProxy end TLS and tell another one of it, with Fairlead between them.
func TestProxyExtensions(t *testing.T) {
	lab := netlab.Gateway(t)
	haproxy(t, lab.Server, 8080, `
frontend told
  mode http
  bind 0.0.0.0:8080 accept-proxy
  http-request return status 200 content-type text/plain lf-string "%[src] %[fc_pp_authority] %[fc_pp_unique_id]"
`)
	d := up(t, lab.Host, `
[forward.shop]
listen = "84"
to = "192.168.1.10:8080"
accept_proxy = ["203.0.113.0/24"]
send_proxy = "v2"
`)
	d.expect("shop relay up")
	haproxy(t, lab.Client, 8443, fmt.Sprintf(`
listen teller
  mode tcp
  bind 127.0.0.1:8443 ssl crt %s
  unique-id-format id-%%[src]-%%[src_port]
  server shop 203.0.113.1:84 send-proxy-v2 proxy-v2-options ssl,cert-cn,ssl-cipher,cert-sig,cert-key,authority,unique-id,crc32c
`, certificate(t, "shop.example")))
	got := lab.Client.Run(t, "curl", "-sSk", "-m", "10", "--local-port", "40000-40010", "--resolve", "shop.example:8443:127.0.0.1", "https://shop.example:8443/")
	if want := "127.0.0.1 shop.example id-127.0.0.1-4000"; len(got) < len(want) || got[:len(want)] != want {
		t.Errorf("the second was told %q, want %q…", got, want)
	}
	if n := d.status()["shop"].Connections.Refused; n != 0 {
		t.Errorf("%d were refused", n)
	}
}
