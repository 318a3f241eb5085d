package vhost

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const (
	day      = 24 * time.Hour
	lifetime = 90 * day
)

// An acmeServer is as much of an authority as a client can tell (RFC 8555), without a network between: it calls who it issues to by itself (RFC 8737).
type acmeServer struct {
	certs *Certs
	key   crypto.Signer
	root  *x509.Certificate

	mu     sync.Mutex
	down   bool
	orders []*acmeOrder
	issued map[string]int
	asked  map[string]int // by name, or "" for what has none
}

type acmeOrder struct {
	name  string
	valid bool   // the name was proven
	chain []byte // PEM; nil: not issued yet
}

func newACMEServer(t *testing.T) *acmeServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IsCA: true, BasicConstraintsValid: true, NotBefore: time.Now(), NotAfter: time.Now().Add(3650 * day)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &acmeServer{key: key, root: root, issued: map[string]int{}, asked: map[string]int{}}
}

var errDown = errors.New("the authority is not there")

// RoundTrip answers one request.
func (a *acmeServer) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	down := a.down
	a.mu.Unlock()
	if down {
		return nil, errDown
	}
	var payload []byte
	if r.Body != nil {
		var jws struct{ Payload string }
		if err := json.NewDecoder(r.Body).Decode(&jws); err != nil {
			return nil, err
		}
		payload, _ = base64.RawURLEncoding.DecodeString(jws.Payload)
	}
	res := &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Replay-Nonce": {rand.Text()}}, Request: r}
	body := a.answer(r.URL.Path, payload, res)
	res.Body = io.NopCloser(strings.NewReader(body))
	return res, nil
}

func (a *acmeServer) answer(path string, payload []byte, res *http.Response) string {
	const base = "https://authority.example"
	what, id, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if what == "order" && id == "" {
		return a.order(base, payload, res)
	}
	a.mu.Lock()
	var o *acmeOrder
	var n int
	if _, err := fmt.Sscan(id, &n); err == nil {
		o = a.orders[n]
		a.asked[o.name]++
	}
	a.mu.Unlock()
	switch what {
	case "directory":
		return fmt.Sprintf(`{"newNonce":"%[1]s/nonce","newAccount":"%[1]s/account","newOrder":"%[1]s/order","revokeCert":"%[1]s/revoke","keyChange":"%[1]s/key"}`, base)
	case "account":
		res.StatusCode = http.StatusCreated
		res.Header.Set("Location", base+"/account/me")
		return `{"status":"valid"}`
	case "authz":
		return fmt.Sprintf(`{"status":%q,"identifier":{"type":"dns","value":%q},"challenges":[%s]}`, proven(o.valid), o.name, challengeOf(base, n, o))
	case "challenge":
		o.valid = a.calls(o.name)
		return challengeOf(base, n, o)
	case "finalize":
		if err := a.issue(o, payload); err != nil {
			res.StatusCode = http.StatusForbidden
			return err.Error()
		}
		return orderOf(base, n, o)
	case "order":
		return orderOf(base, n, o)
	case "cert":
		res.Header.Set("Content-Type", "application/pem-certificate-chain")
		return string(o.chain)
	}
	return ""
}

func (a *acmeServer) order(base string, payload []byte, res *http.Response) string {
	var asks struct{ Identifiers []struct{ Value string } }
	if err := json.Unmarshal(payload, &asks); err != nil || len(asks.Identifiers) != 1 {
		res.StatusCode = http.StatusBadRequest
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	o := &acmeOrder{name: asks.Identifiers[0].Value}
	a.asked[o.name]++
	a.orders = append(a.orders, o)
	res.StatusCode = http.StatusCreated
	res.Header.Set("Location", fmt.Sprintf("%s/order/%d", base, len(a.orders)-1))
	return orderOf(base, len(a.orders)-1, o)
}

func proven(valid bool) string {
	if valid {
		return "valid"
	}
	return "pending"
}

func orderOf(base string, n int, o *acmeOrder) string {
	status := "pending"
	switch {
	case o.chain != nil:
		status = "valid"
	case o.valid:
		status = "ready"
	}
	return fmt.Sprintf(`{"status":%[3]q,"identifiers":[{"type":"dns","value":%[4]q}],"authorizations":["%[1]s/authz/%[2]d"],"finalize":"%[1]s/finalize/%[2]d","certificate":"%[1]s/cert/%[2]d"}`,
		base, n, status, o.name)
}

func challengeOf(base string, n int, o *acmeOrder) string {
	return fmt.Sprintf(`{"type":"tls-alpn-01","url":"%s/challenge/%d","token":"token-%d","status":%q}`, base, n, n, proven(o.valid))
}

// calls reports whether who has the name proves it.
func (a *acmeServer) calls(name string) bool {
	cert, err := a.certs.get([]string{name})(helloOf(name, protoACME))
	if err != nil {
		return false
	}
	leaf, err := x509.ParseCertificate(cert.Certificate[0])
	return err == nil && slices.ContainsFunc(leaf.Extensions, func(e pkix.Extension) bool {
		return e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}) // id-pe-acmeIdentifier
	})
}

func (a *acmeServer) issue(o *acmeOrder, payload []byte) error {
	var asks struct{ CSR string }
	if err := json.Unmarshal(payload, &asks); err != nil {
		return err
	}
	der, _ := base64.RawURLEncoding.DecodeString(asks.CSR)
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || !o.valid {
		return fmt.Errorf("%v, %w", o.valid, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.issued[o.name]++
	template := &x509.Certificate{SerialNumber: big.NewInt(int64(len(a.orders))), DNSNames: []string{o.name}, NotBefore: time.Now(), NotAfter: time.Now().Add(lifetime)}
	leaf, err := x509.CreateCertificate(rand.Reader, template, a.root, csr.PublicKey, a.key)
	if err != nil {
		return err
	}
	for _, der := range [][]byte{leaf, a.root.Raw} {
		o.chain = append(o.chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return nil
}

func (a *acmeServer) setDown(down bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.down = down
}

// counts are how many certificates were issued for a name, and how often it was asked about.
func (a *acmeServer) counts(name string) (issued, asked int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.issued[name], a.asked[name]
}

func helloOf(name string, protos ...string) *tls.ClientHelloInfo {
	return &tls.ClientHelloInfo{
		ServerName: name, SupportedProtos: protos, SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256},
	}
}

// TestRenewal is a year of two names, of which one is given up, with an authority that is away for long.
func TestRenewal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := newACMEServer(t)
		c := NewCerts(t.TempDir(), nil)
		authority.certs, c.via = c, authority
		c.Settle(ACME{Directory: "https://authority.example/directory"})
		names := []string{"blog.example.com", "files.example.com"}
		c.Want(names)
		running := make(chan error, 1)
		go func() { running <- c.Run(t.Context()) }()
		good := func(name string) error {
			cert, err := c.get([]string{name})(helloOf(name, "h2"))
			if err != nil {
				return err
			}
			roots := x509.NewCertPool()
			roots.AddCert(authority.root)
			_, err = cert.Leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, CurrentTime: time.Now()})
			return err
		}
		pass := func(days int) {
			t.Helper()
			for range days {
				time.Sleep(day)
				for _, name := range names {
					if err := good(name); err != nil {
						t.Fatalf("%s: %s: %v", time.Now(), name, err)
					}
				}
			}
		}
		pass(190)
		for _, name := range names {
			if issued, _ := authority.counts(name); issued != 4 { // a new one after 60 days each
				t.Errorf("%s: %d certificates", name, issued)
			}
		}
		if note := c.Note(names); note != "" {
			t.Errorf("%q", note)
		}

		names = names[:1]
		c.Want(names)
		_, before := authority.counts("files.example.com")
		pass(70)
		if _, after := authority.counts("files.example.com"); after != before {
			t.Errorf("a name that is not wanted was asked about %d times", after-before)
		}

		// The last certificate that there is has 30 days at the least.
		authority.setDown(true)
		pass(29)
		for said := false; good(names[0]) == nil; time.Sleep(day) {
			said = c.Note(names) != ""
			if left := time.Until(endOf(t, c, names[0])); left < 14*day && !said {
				t.Fatalf("nobody is told %s before the end", left)
			}
		}
		if note := c.Note(names); !strings.Contains(note, "no other is to be had") {
			t.Errorf("after the end: %q", note)
		}
		authority.setDown(false)
		time.Sleep(2 * time.Hour)
		pass(70)
		if note := c.Note(names); note != "" {
			t.Errorf("after the authority is there again: %q", note)
		}
	})
}

func endOf(t *testing.T, c *Certs, name string) time.Time {
	t.Helper()
	cert, err := c.get([]string{name})(helloOf(name))
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.NotAfter
}
