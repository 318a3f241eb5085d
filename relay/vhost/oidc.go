package vhost

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"golang.org/x/oauth2"
)

// Where people come back to, and how they leave, at every site with auth = "oidc".
const (
	callbackPath = "/.fairlead/oidc/callback"
	logoutPath   = "/.fairlead/oidc/logout"
)

// The cookies. Their prefix has browsers hold them to this host and to TLS (RFC 6265bis, section 4.1.3.2).
const (
	cookiePrefix  = "__Host-fairlead"
	sessionCookie = cookiePrefix
	loginCookie   = cookiePrefix + "-login"
	sessionLife   = 12 * time.Hour
	loginLife     = 10 * time.Minute
	maxReturn     = 1024 // of where somebody wanted to go, in bytes
)

// A pending login is what is known between leaving for the provider and coming back. It is in a cookie, so that strangers cost nothing here.
type pending struct{ State, Nonce, Verifier, Return string }

// A logged in person.
type person struct{ Email string }

// purpose is what a cookie is sealed for: no other host's, no other kind, and no other provider's.
func (l *Logins) purpose(cookie, host string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return cookie + " " + host + " " + l.conf.Issuer + " " + l.conf.ClientID
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// who lets those in who have logged in at the provider, sends others there, and takes those in who come back.
func (g *guest) who(w http.ResponseWriter, r *http.Request) (user string, ok bool) {
	site, host := g.visit.Site(), hostOf(r)
	seal := site.logins.cookies()
	switch r.URL.Path {
	case callbackPath:
		g.comeBack(w, r)
		return "", false
	case logoutPath:
		if r.Header.Get("Sec-Fetch-Site") == "cross-site" { // Fetch Metadata; another site is not to throw people out of this one
			refuse(w, http.StatusForbidden, errors.New("another site asks to log you out here, which you can do by opening this address yourself"))
			return "", false
		}
		setCookie(w, sessionCookie, "", 0)
		refuse(w, http.StatusOK, errors.New("you are logged out here"))
		return "", false
	}
	var p person
	if cookie := onlyCookie(r, sessionCookie); cookie != "" && seal.open(site.logins.purpose(sessionCookie, host), cookie, &p) == nil {
		if site.allows(p.Email) {
			return p.Email, true
		}
		refuse(w, http.StatusForbidden, errNotAllowed)
		return "", false
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead || r.Header.Get("Upgrade") != "" {
		refuse(w, http.StatusUnauthorized, errors.New("log in first"))
		return "", false
	}
	g.sendAway(w, r)
	return "", false
}

var errNotAllowed = errors.New("you are known, and may not see this site")

// sendAway has somebody log in at the provider (OpenID Connect Core 1.0, section 3.1.2; PKCE, RFC 7636).
func (g *guest) sendAway(w http.ResponseWriter, r *http.Request) {
	logins, host := g.visit.Site().logins, hostOf(r)
	d, err := logins.desk(r.Context(), callbackOf(r))
	if err != nil {
		refuse(w, http.StatusBadGateway, errors.New("the provider of logins does not answer"))
		return
	}
	p := pending{State: rand.Text(), Nonce: rand.Text(), Verifier: oauth2.GenerateVerifier(), Return: r.URL.RequestURI()}
	if len(p.Return) > maxReturn || !isLocal(p.Return) {
		p.Return = "/"
	}
	cookie, err := logins.cookies().seal(logins.purpose(loginCookie, host), p, loginLife)
	if err != nil {
		refuse(w, http.StatusInternalServerError, errors.New("nobody can log in"))
		return
	}
	setCookie(w, loginCookie, cookie, loginLife)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", d.AuthCodeURL(p.State, oidc.Nonce(p.Nonce), oauth2.S256ChallengeOption(p.Verifier)))
	w.WriteHeader(http.StatusFound)
}

// callbackOf is where the provider sends people back to.
func callbackOf(r *http.Request) string {
	return (&url.URL{Scheme: "https", Host: r.Host, Path: callbackPath}).String()
}

// isLocal reports whether a place is one of the same site: "//other" is not.
func isLocal(place string) bool {
	return strings.HasPrefix(place, "/") && !strings.HasPrefix(place, "//") && !strings.HasPrefix(place, `/\`)
}

// comeBack takes somebody in who was at the provider.
func (g *guest) comeBack(w http.ResponseWriter, r *http.Request) {
	site, host := g.visit.Site(), hostOf(r)
	var p pending
	query := r.URL.Query()
	err := site.logins.cookies().open(site.logins.purpose(loginCookie, host), onlyCookie(r, loginCookie), &p)
	if err != nil || !same(p.State, query.Get("state")) || len(query["state"]) != 1 {
		refuse(w, http.StatusBadRequest, errors.New("this login was not begun here, or too long ago; go back to the site"))
		return
	}
	setCookie(w, loginCookie, "", 0)
	email, err := g.identify(r.Context(), r, query.Get("code"), p)
	switch {
	case err != nil:
		refuse(w, http.StatusForbidden, errors.New("the login has failed"))
		return
	case !site.allows(email):
		refuse(w, http.StatusForbidden, errNotAllowed)
		return
	}
	cookie, err := site.logins.cookies().seal(site.logins.purpose(sessionCookie, host), person{email}, sessionLife)
	if err != nil {
		refuse(w, http.StatusInternalServerError, errors.New("nobody can log in"))
		return
	}
	setCookie(w, sessionCookie, cookie, sessionLife)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Location", p.Return)
	w.WriteHeader(http.StatusSeeOther)
}

func (g *guest) identify(ctx context.Context, r *http.Request, code string, p pending) (email string, err error) {
	if code == "" {
		return "", errors.New("the provider sent nothing")
	}
	logins := g.visit.Site().logins
	d, err := logins.desk(ctx, callbackOf(r))
	if err != nil {
		return "", err
	}
	return logins.whois(ctx, d, code, p.Verifier, p.Nonce)
}

// allows reports whether somebody may see the site. Domains and, as everybody has it, addresses are the same in any case of letters.
func (s *Site) allows(email string) bool {
	if len(s.conf.Allow) == 0 {
		return true
	}
	_, domain, _ := strings.Cut(email, "@")
	return slices.ContainsFunc(s.conf.Allow, func(a string) bool {
		if of, ok := strings.CutPrefix(a, "@"); ok {
			return strings.EqualFold(of, domain)
		}
		return strings.EqualFold(a, email)
	})
}

// setCookie sets a cookie, or, without a life, takes it away.
func setCookie(w http.ResponseWriter, name, value string, life time.Duration) {
	age := int(life / time.Second)
	if age == 0 {
		age = -1
	}
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: age, Secure: true, HttpOnly: true, SameSite: http.SameSiteLaxMode,
	})
}

// onlyCookie is the value of a cookie that is there once.
func onlyCookie(r *http.Request, name string) string {
	all := r.CookiesNamed(name)
	if len(all) != 1 {
		return ""
	}
	return all[0].Value
}

// dropCookies takes our own cookies out of a request: they are not for the target.
func dropCookies(h http.Header) {
	if !slices.ContainsFunc(h.Values("Cookie"), func(line string) bool { return strings.Contains(line, cookiePrefix) }) {
		return
	}
	var kept []string
	for _, line := range h.Values("Cookie") {
		for part := range strings.SplitSeq(line, ";") {
			if part = strings.TrimSpace(part); part != "" && !strings.HasPrefix(part, cookiePrefix) {
				kept = append(kept, part)
			}
		}
	}
	h.Del("Cookie")
	if len(kept) > 0 {
		h.Set("Cookie", strings.Join(kept, "; "))
	}
}
