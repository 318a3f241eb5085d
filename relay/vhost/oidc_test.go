package vhost

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"

	"github.com/fairlead-net/fairlead/forward"
)

// A testProvider is a provider of OpenID Connect that knows one person, and checks what OAuth 2.0 and PKCE want of a client.
type testProvider struct {
	*httptest.Server
	t     *testing.T
	key   *ecdsa.PrivateKey
	email string
	edit  func(claims map[string]any) // of the ID token; nil: none

	mu    sync.Mutex
	codes map[string]url.Values // what was asked, by the code that was given for it
}

func newProvider(t *testing.T) *testProvider {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p := &testProvider{t: t, key: key, email: "anna@example.com", codes: map[string]url.Values{}}
	mux := http.NewServeMux()
	p.Server = httptest.NewTLSServer(mux)
	t.Cleanup(p.Close)
	reply := func(w http.ResponseWriter, v any) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(v)
	}
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, map[string]any{
			"issuer": p.URL, "authorization_endpoint": p.URL + "/auth", "token_endpoint": p.URL + "/token", "jwks_uri": p.URL + "/keys",
			"id_token_signing_alg_values_supported": []string{"ES256"}, "response_types_supported": []string{"code"}, "subject_types_supported": []string{"public"},
		})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "k", Algorithm: "ES256", Use: "sig"}}})
	})
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if q.Get("client_id") != "us" || q.Get("response_type") != "code" || q.Get("code_challenge_method") != "S256" || q.Get("nonce") == "" || !strings.Contains(q.Get("scope"), "openid") {
			t.Errorf("asked for %s", r.URL)
		}
		code := rand.Text()
		p.mu.Lock()
		p.codes[code] = q
		p.mu.Unlock()
		back, _ := url.Parse(q.Get("redirect_uri"))
		back.RawQuery = url.Values{"code": {code}, "state": {q.Get("state")}}.Encode()
		http.Redirect(w, r, back.String(), http.StatusFound)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		_ = r.ParseForm()
		p.mu.Lock()
		asked := p.codes[r.Form.Get("code")]
		delete(p.codes, r.Form.Get("code"))
		p.mu.Unlock()
		id, secret, _ := r.BasicAuth()
		sum := sha256.Sum256([]byte(r.Form.Get("code_verifier")))
		if asked == nil || id != "us" || secret != "secret" || base64.RawURLEncoding.EncodeToString(sum[:]) != asked.Get("code_challenge") || r.Form.Get("redirect_uri") != asked.Get("redirect_uri") {
			http.Error(w, `{"error": "invalid_grant"}`, http.StatusBadRequest)
			return
		}
		claims := map[string]any{
			"iss": p.URL, "aud": "us", "sub": "1", "exp": time.Now().Add(time.Minute).Unix(), "iat": time.Now().Unix(), "nonce": asked.Get("nonce"),
			"email": p.email, "email_verified": true,
		}
		if p.edit != nil {
			p.edit(claims)
		}
		payload, _ := json.Marshal(claims)
		signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "k"}}, nil)
		if err != nil {
			t.Error(err)
			return
		}
		signed, err := signer.Sign(payload)
		if err != nil {
			t.Error(err)
			return
		}
		text, _ := signed.CompactSerialize()
		reply(w, map[string]any{"access_token": "x", "token_type": "Bearer", "expires_in": 60, "id_token": text})
	})
	return p
}

// oidcSite serves wiki.example behind the provider, and returns how to call it.
func oidcSite(t *testing.T, p *testProvider, allow ...string) (client *http.Client, front *testFront, site *Site) {
	t.Helper()
	dir := t.TempDir()
	ca := filepath.Join(dir, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	logins := NewLogins(filepath.Join(dir, "oidc.key"))
	logins.Settle(OIDC{Issuer: p.URL, ClientID: "us", ClientSecret: "secret", CA: ca})
	if err := logins.prepare(); err != nil {
		t.Fatal(err)
	}
	pair, pool := ownPair(t, "wiki.example", "other.example")
	site = &Site{conf: forward.Site{TLS: forward.TLSFiles, Auth: forward.AuthOIDC, Allow: allow}, logins: logins, page: plainPage(""), ports: []uint16{443}}
	site.tls = newConfig(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &pair, nil }, "h2", "http/1.1")
	front = &testFront{t: t, sites: map[string]*Site{"wiki.example": site, "other.example": site}}
	server := serveFor(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				o, err := Open(c)
				if err != nil {
					c.Close()
					return
				}
				server.ServeTLSConn(c, o, site, front)
			}()
		}
	}()
	pool.AddCert(p.Certificate())
	jar, _ := cookiejar.New(nil)
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			if strings.HasSuffix(addr, ".example:443") {
				addr = l.Addr().String()
			}
			return new(net.Dialer).DialContext(ctx, network, addr)
		},
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Jar: jar, Timeout: 10 * time.Second}, front, site
}

func fetch(t *testing.T, client *http.Client, url string, edit ...func(*http.Request)) (status int, body string, res *http.Response) {
	t.Helper()
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range edit {
		e(r)
	}
	res, err = client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	data, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(data), res
}

func TestOIDC(t *testing.T) {
	p := newProvider(t)
	client, front, site := oidcSite(t, p, "anna@example.com", "@allowed.example")
	status, body, res := fetch(t, client, "https://wiki.example/page?a=1")
	if status != 200 || body != "wiki.example" || res.Request.URL.String() != "https://wiki.example/page?a=1" || res.Header.Get("X-User") != "anna@example.com" || res.Header.Get("X-Cookies") != "" {
		t.Fatalf("%d %s %v", status, body, res.Request.URL)
	}
	if len(front.asked) != 1 || front.asked[0] != "wiki.example/page?a=1" {
		t.Errorf("the target was asked for %q", front.asked)
	}
	for _, c := range client.Jar.Cookies(&url.URL{Scheme: "https", Host: "wiki.example", Path: "/"}) {
		if c.Name == sessionCookie && strings.Contains(c.Value, "anna") {
			t.Error("a cookie can be read")
		}
	}
	// The cookie is good for that site, and no other.
	var session string
	for _, c := range client.Jar.Cookies(&url.URL{Scheme: "https", Host: "wiki.example", Path: "/"}) {
		if c.Name == sessionCookie {
			session = c.Value
		}
	}
	plain := &http.Client{Transport: client.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	with := func(name, value string) func(*http.Request) {
		return func(r *http.Request) { r.AddCookie(&http.Cookie{Name: name, Value: value}) }
	}
	for _, one := range []struct {
		what, url string
		edit      []func(*http.Request)
		status    int
	}{
		{"with the cookie", "https://wiki.example/", []func(*http.Request){with(sessionCookie, session)}, 200},
		{"with it at another site", "https://other.example/", []func(*http.Request){with(sessionCookie, session)}, 302},
		{"with it twice", "https://wiki.example/", []func(*http.Request){with(sessionCookie, session), with(sessionCookie, session)}, 302},
		{"with it as the other cookie", "https://wiki.example" + callbackPath + "?state=&code=x", []func(*http.Request){with(loginCookie, session)}, 400},
		{"with a letter more", "https://wiki.example/", []func(*http.Request){with(sessionCookie, session+"A")}, 302},
		{"with rubbish", "https://wiki.example/", []func(*http.Request){with(sessionCookie, "!")}, 302},
		{"without", "https://wiki.example/", nil, 302},
		{"without, to change something", "https://wiki.example/", []func(*http.Request){func(r *http.Request) { r.Method = "POST" }}, 401},
		{"back from nowhere", "https://wiki.example" + callbackPath + "?state=a&code=b", nil, 400},
	} {
		if status, body, _ := fetch(t, plain, one.url, one.edit...); status != one.status {
			t.Errorf("%s: %d %s", one.what, status, body)
		}
	}
	// Whoever is no longer allowed is out at once.
	site.conf.Allow = []string{"@allowed.example"}
	if status, _, _ := fetch(t, client, "https://wiki.example/"); status != 403 {
		t.Errorf("somebody who may not any more: %d", status)
	}
	if status, _, res := fetch(t, plain, "https://wiki.example"+logoutPath, with(sessionCookie, session), func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	}); status != http.StatusForbidden || len(res.Cookies()) != 0 {
		t.Errorf("logging out by another site: %d %v", status, res.Header)
	}
	if _, _, res := fetch(t, plain, "https://wiki.example"+logoutPath, with(sessionCookie, session)); len(res.Cookies()) != 1 || res.Cookies()[0].MaxAge >= 0 {
		t.Errorf("logging out: %v", res.Header)
	}
}

// TestOIDCRefusals has tokens that a provider of somebody else's, or for somebody else, could have made.
func TestOIDCRefusals(t *testing.T) {
	p := newProvider(t)
	for name, edit := range map[string]func(map[string]any){
		"another audience":     func(c map[string]any) { c["aud"] = "them" },
		"another issuer":       func(c map[string]any) { c["iss"] = "https://evil.example" },
		"another login":        func(c map[string]any) { c["nonce"] = "x" },
		"no nonce":             func(c map[string]any) { delete(c, "nonce") },
		"expired":              func(c map[string]any) { c["exp"] = time.Now().Add(-time.Hour).Unix() },
		"not verified":         func(c map[string]any) { c["email_verified"] = false },
		"nothing of that":      func(c map[string]any) { delete(c, "email_verified") },
		"somebody else":        func(c map[string]any) { c["email"] = "eve@example.com" },
		"a domain within":      func(c map[string]any) { c["email"] = "eve@x@allowed.example" },
		"a domain that is not": func(c map[string]any) { c["email"] = "eve@not.allowed.example" },
	} {
		p.edit = edit
		client, front, _ := oidcSite(t, p, "anna@example.com", "@allowed.example")
		if status, body, _ := fetch(t, client, "https://wiki.example/"); status != 403 || len(front.asked) > 0 {
			t.Errorf("%s: %d %s", name, status, body)
		}
	}
	p.edit = nil
	p.email = "Ben@Allowed.example"
	client, _, _ := oidcSite(t, p, "anna@example.com", "@allowed.example")
	if status, body, _ := fetch(t, client, "https://wiki.example//evil.example/"); status != 200 {
		t.Errorf("of the domain: %d %s", status, body)
	}
	// Nobody else's state.
	plain := &http.Client{Transport: client.Transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	_, _, res := fetch(t, plain, "https://wiki.example/")
	status, _, _ := fetch(t, plain, "https://wiki.example"+callbackPath+"?code=x&state=other", func(r *http.Request) { r.AddCookie(res.Cookies()[0]) })
	if status != 400 {
		t.Errorf("another state: %d", status)
	}
	// A provider that is away.
	p.Close()
	client, _, _ = oidcSite(t, p)
	if status, _, _ := fetch(t, client, "https://wiki.example/"); status != 502 {
		t.Errorf("without a provider: %d", status)
	}
}

// FuzzSeal opens what nobody has sealed.
func FuzzSeal(f *testing.F) {
	s, err := loadSealer(filepath.Join(f.TempDir(), "k", "key"))
	if err != nil {
		f.Fatal(err)
	}
	good, err := s.seal("a", person{"anna@example.com"}, time.Hour)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add("")
	f.Add(strings.Repeat("A", maxCookie+1))
	f.Fuzz(func(t *testing.T, cookie string) {
		var p person
		err := s.open("a", cookie, &p)
		if cookie == good && err != nil || err == nil && p.Email != "anna@example.com" {
			t.Fatalf("%q: %v, %v", cookie, p, err)
		}
		if s.open("b", cookie, &p) == nil {
			t.Fatal("opened for another purpose")
		}
	})
}
