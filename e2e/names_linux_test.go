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
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/password"
)

// tool finds a program that `make tools` builds, or one that is installed.
func tool(t testing.TB, name string) string {
	t.Helper()
	built, err := filepath.Abs(filepath.Join("..", "bin", name))
	if err == nil {
		if _, err = os.Stat(built); err == nil {
			return built
		}
	}
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	const hint = "it is built by `make testtools`"
	if os.Getenv(netlab.RequireEnv) == "require" {
		t.Fatalf("%v: %s", err, hint)
	}
	t.Skipf("%v: %s", err, hint)
	return ""
}

// selfSigned writes a certificate of names and addresses, which is its own authority, and its key.
func selfSigned(t testing.TB, dir, name string, names ...string) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	cert, key = filepath.Join(dir, name+".pem"), filepath.Join(dir, name+".key")
	for path, block := range map[string]*pem.Block{cert: {Type: "CERTIFICATE", Bytes: der}, key: {Type: "EC PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o644); err != nil { // the daemon is another user
			t.Fatal(err)
		}
	}
	return cert, key
}

// site is nginx on a node, which answers with its name and with what it was told of the client; with a certificate it speaks TLS.
func site(t testing.TB, n *netlab.Node, name string, port int, cert, key string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	secure := ""
	if cert != "" {
		secure = fmt.Sprintf(" ssl; ssl_certificate %s; ssl_certificate_key %s", cert, key)
	}
	conf := fmt.Sprintf(`daemon off; master_process off; error_log stderr; pid %[1]s/pid;
events { worker_connections 512; }
http {
  access_log off; underscores_in_headers on;
  client_body_temp_path %[1]s/a; proxy_temp_path %[1]s/b; fastcgi_temp_path %[1]s/c; uwsgi_temp_path %[1]s/d; scgi_temp_path %[1]s/e;
  server { listen %[2]d%[4]s; location / { return 200 "site=%[3]s host=$http_host for=$http_x_forwarded_for proto=$http_x_forwarded_proto std=$http_forwarded user=$http_x_forwarded_user auth=$http_authorization\n"; } }
}`, dir, port, name, secure)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	n.Start(t, "nginx", "-c", file, "-p", dir)
	n.WaitListen(t, "tcp", port)
}

// certificateTime is how long a certificate may take. pebble refuses one request in five, as it is told to, and whoever is refused rests for
// one second, then two, four, eight and ten; there are a dozen requests to a certificate, and one certificate comes after the other.
const certificateTime = 3 * time.Minute

// An authority is pebble, the test server of ACME, and where it finds names.
type authority struct{ directory, ca, root string }

// pebble runs an authority on a node, to which every name is at an address.
func pebble(t testing.TB, n *netlab.Node, self, everything string) authority {
	t.Helper()
	server, names := tool(t, "pebble"), tool(t, "pebble-challtestsrv")
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	cert, key := selfSigned(t, dir, "acme", self)
	config := fmt.Sprintf(`{"pebble": {"listenAddress": "0.0.0.0:14000", "managementListenAddress": "0.0.0.0:15000", "certificate": %q, "privateKey": %q,
"httpPort": 80, "tlsPort": 443, "ocspResponderURL": "", "externalAccountBindingRequired": false,
"retryAfter": {"authz": 1, "order": 1}, "profiles": {"default": {"description": "", "validityPeriod": 7776000}}}}`, cert, key)
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	n.Start(t, names, "-defaultIPv4", everything, "-defaultIPv6", "", "-dnsserver", ":8053", "-http01", "", "-https01", "", "-tlsalpn01", "", "-doh", "", "-management", "127.0.0.1:8055")
	n.WaitListen(t, "tcp", 8055)
	n.Start(t, "env", "PEBBLE_VA_NOSLEEP=1", "PEBBLE_WFE_NONCEREJECT=20", "PEBBLE_AUTHZREUSE=0", server, "-config", file, "-dnsserver", "127.0.0.1:8053")
	n.WaitListen(t, "tcp", 14000)
	n.WaitListen(t, "tcp", 15000)
	a := authority{directory: "https://" + net.JoinHostPort(self, "14000") + "/dir", ca: cert, root: filepath.Join(dir, "root.pem")}
	n.Run(t, "curl", "-sSf", "--cacert", cert, "-o", a.root, "https://"+net.JoinHostPort(self, "15000")+"/roots/0")
	return a
}

// resolve has curl find a name at the gateway.
func resolve(name string) []string {
	return append([]string{"-m", "10"}, resolveAt(name, netlab.RouterWAN4)...)
}

// resolveAt has curl find a name at an address.
func resolveAt(name, addr string) []string {
	return []string{"-sS", "--resolve", name + ":443:" + addr, "--resolve", name + ":80:" + addr, "--resolve", name + ":8443:" + addr}
}

// TestNames has real clients call several names on the ports 80 and 443 of one host: one whose TLS ends there with a certificate
// of pebble's, one with a certificate of its own behind a password, one whose TLS passes through, and the rest.
func TestNames(t *testing.T) {
	needs(t, "curl", "nginx", "openssl", "python3")
	lab := netlab.Gateway(t)
	ca := pebble(t, lab.Client, netlab.Client4, netlab.RouterWAN4)
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ownCert, ownKey := selfSigned(t, dir, "own", "own.example.com")
	passCert, passKey := selfSigned(t, dir, "pass", "a.pass.example.com")
	site(t, lab.Server, "blog", 8081, "", "")
	site(t, lab.Server, "own", 8082, "", "")
	site(t, lab.Server, "pass", 8443, passCert, passKey)
	site(t, lab.Server, "rest", 8083, "", "")
	page := filepath.Join(dir, "away.html")
	if err := os.WriteFile(page, []byte("<h1>gone fishing</h1>\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	hash, err := password.Hash("sesame")
	if err != nil {
		t.Fatal(err)
	}
	d := up(t, lab.Host, fmt.Sprintf(`
[acme]
email = "admin@example.com"
directory = %q
ca = %q
[users.anna]
password = %q
[forward.blog]
listen = "80,443"
to = "192.168.1.10:8081"
host = ["blog.example.com", "www.example.com"]
tls = "acme"
redirect_https = true
[forward.own]
listen = "80,443"
to = "192.168.1.10:8082"
host = "own.example.com"
cert = %q
key = %q
auth = "basic"
[forward.pass]
listen = "443"
to = "192.168.1.10:8443"
host = "*.pass.example.com"
[forward.rest]
listen = "80"
to = "192.168.1.10:8083"
host = "*"
[forward.away]
listen = "80"
to = "192.168.1.10:9"
host = "away.example.com"
away_page = %q
[forward.other]
listen = "80,8443"
to = "192.168.1.10:8081"
host = "other.example.com"
tls = "acme"
[forward.dmz]
listen = "tcp+udp/*"
to = "192.168.1.20"
`, ca.directory, ca.ca, hash, ownCert, ownKey, page))
	for name, f := range d.status() {
		if name != "dmz" && (f.State != "up" || f.Carried != "relay" || f.Why != "chosen by host name") {
			t.Errorf("%+v", f)
		}
	}
	curl := func(name string, args ...string) string {
		t.Helper()
		return lab.Client.Run(t, "curl", append(resolve(name), args...)...)
	}

	// Certificates come by TLS-ALPN-01, and by HTTP-01 where 443 is not listened at.
	state := filepath.Join(d.dir, "state", "certs")
	for _, name := range []string{"blog.example.com", "www.example.com", "other.example.com"} {
		waitUpTo(t, certificateTime, "there is a certificate for "+name, func() bool { _, err := os.Stat(filepath.Join(state, name)); return err == nil })
	}
	files, err := os.ReadDir(state)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if info, err := f.Info(); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", f.Name(), info.Mode(), err)
		}
	}
	for _, version := range []string{"--http1.1", "--http2"} {
		out := curl("blog.example.com", version, "--cacert", ca.root, "-w", "%{http_version}", "-H", "X-Forwarded-For: 1.2.3.4", "https://blog.example.com/x")
		want := "site=blog host=blog.example.com for=" + netlab.Client4 + " proto=https std=for=" + netlab.Client4 + ";host=\"blog.example.com\";proto=https user= auth=\n"
		if !strings.HasPrefix(out, want) || strings.HasSuffix(out, "2") != (version == "--http2") {
			t.Errorf("%s: %s", version, out)
		}
	}
	if out := curl("other.example.com", "--cacert", ca.root, "https://other.example.com:8443/"); !strings.HasPrefix(out, "site=blog host=other.example.com:8443") {
		t.Error(out)
	}
	if out := curl("blog.example.com", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://blog.example.com/a?b"); out != "308 https://blog.example.com/a?b" {
		t.Error(out)
	}
	if out := curl("blog.example.com", "--cacert", ca.root, "-w", "%{http_code}", "-H", "Host: own.example.com", "https://blog.example.com/"); !strings.HasSuffix(out, "421") {
		t.Errorf("another name than that of TLS: %s", out)
	}

	// A password, and a certificate of one's own.
	if out := curl("own.example.com", "--cacert", ownCert, "-w", "%{http_code}", "https://own.example.com/"); !strings.HasSuffix(out, "401") {
		t.Errorf("without a password: %s", out)
	}
	if out := curl("own.example.com", "-u", "anna:wrong", "--cacert", ownCert, "-w", "%{http_code}", "https://own.example.com/"); !strings.HasSuffix(out, "401") {
		t.Errorf("with a wrong password: %s", out)
	}
	if out := curl("own.example.com", "-u", "anna:sesame", "--cacert", ownCert, "https://own.example.com/"); !strings.HasPrefix(out, "site=own host=own.example.com") || !strings.HasSuffix(out, " user=anna auth=\n") {
		t.Errorf("with the password: %s", out)
	}
	if out := curl("own.example.com", "-u", "anna:x", "-o", "/dev/null", "-w", "%{http_code}", "http://own.example.com/"); out != "308" {
		t.Errorf("a password in clear: %s", out)
	}

	// TLS that passes through has the target's own certificate; a name that leads nowhere is refused.
	if out := curl("a.pass.example.com", "--cacert", passCert, "https://a.pass.example.com/"); !strings.HasPrefix(out, "site=pass host=a.pass.example.com for= ") {
		t.Error(out)
	}
	subject := func(name string) string {
		return lab.Client.Run(t, "sh", "-c", "openssl s_client -connect "+netlab.RouterWAN4+":443 -servername "+name+" </dev/null 2>&1 | grep -E 'subject=|alert'")
	}
	for name, want := range map[string]string{"a.pass.example.com": "pass", "own.example.com": "own", "nobody.example.com": "unrecognized name", "b.a.pass.example.com": "unrecognized name"} {
		if out := subject(name); !strings.Contains(out, want) {
			t.Errorf("%s: %s", name, out)
		}
	}

	// Whoever calls none of the names, and a page while a target is away.
	if out := curl("who.example.org", "http://who.example.org/"); !strings.HasPrefix(out, "site=rest host=who.example.org for="+netlab.Client4) {
		t.Error(out)
	}
	if out := curl("away.example.com", "-i", "http://away.example.com/"); !strings.Contains(out, "503 Service Unavailable") || !strings.Contains(out, "Retry-After: ") || !strings.Contains(out, "gone fishing") {
		t.Error(out)
	}

	// The daemon keeps its certificates: the next one asks nobody.
	if err := d.proc.Stop(); err != nil {
		t.Fatal(err)
	}
	d.start()
	if out := curl("blog.example.com", "--cacert", ca.root, "https://blog.example.com/"); !strings.HasPrefix(out, "site=blog") {
		t.Error(out)
	}
	if strings.Contains(d.proc.Output(), "not to be had") {
		t.Error("a certificate was lost")
	}
}
