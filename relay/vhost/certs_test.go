package vhost

import (
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
)

// TestNotBefore has a stranger call a name for which no certificate is to be had: the authority is not asked again for that, whatever the
// stranger says that he speaks.
func TestNotBefore(t *testing.T) {
	var asked atomic.Int32
	authority := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusNotFound)
	}))
	defer authority.Close()
	c := NewCerts(t.TempDir(), nil)
	defer c.close()
	c.Settle(ACME{Directory: authority.URL})
	failed := errors.New("not to be had")
	c.state["a.example"] = &try{err: failed}
	for _, protos := range [][]string{nil, {"h2", "http/1.1"}, {"h2", protoACME}, {protoACME, protoACME}} {
		hello := &tls.ClientHelloInfo{
			ServerName: "a.example", SupportedProtos: protos, SupportedVersions: []uint16{tls.VersionTLS13},
			SignatureSchemes: []tls.SignatureScheme{tls.ECDSAWithP256AndSHA256}, CipherSuites: []uint16{tls.TLS_AES_128_GCM_SHA256}, SupportedCurves: []tls.CurveID{tls.CurveP256},
		}
		if _, err := c.get([]string{"a.example"})(hello); !errors.Is(err, failed) {
			t.Errorf("%q: %v", protos, err)
		}
	}
	if n := asked.Load(); n > 0 {
		t.Errorf("the authority was asked %d times", n)
	}
}
