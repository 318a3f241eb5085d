package vhost

import (
	"context"
	"crypto/subtle"
	"errors"
	"net/http"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

// admits reports whether a request may go on, and answers if not. The request has who logged in.
func (g *guest) admits(w http.ResponseWriter, r *http.Request) (*http.Request, bool) {
	switch g.visit.Site().conf.Auth {
	case forward.AuthBasic:
		user, ok := g.logIn(w, r)
		return r.WithContext(context.WithValue(r.Context(), userKey{}, user)), ok
	case forward.AuthOIDC:
		user, ok := g.who(w, r)
		return r.WithContext(context.WithValue(r.Context(), userKey{}, user)), ok
	}
	return r, true
}

// userKey is that of who has logged in, in the context of a request.
type userKey struct{}

// loginTime is how long a name and a password stay right: users come and go.
const loginTime = time.Minute

// logIn asks for a name and a password (RFC 7617). Each request has them; what was right on this connection a moment ago is not
// looked up again, for a hash of a password takes long on purpose.
func (g *guest) logIn(w http.ResponseWriter, r *http.Request) (user string, ok bool) {
	said := r.Header.Values("Authorization")
	name, password, ok := r.BasicAuth()
	if ok && len(said) == 1 {
		g.mu.Lock()
		known := time.Since(g.right) < loginTime && subtle.ConstantTimeCompare([]byte(g.login), []byte(said[0])) == 1
		user := g.user
		g.mu.Unlock()
		if known {
			return user, true
		}
		if err := g.visit.Login(r.Context(), name, password); err == nil {
			g.mu.Lock()
			g.login, g.user, g.right = said[0], name, time.Now()
			g.mu.Unlock()
			return name, true
		}
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="fairlead", charset="UTF-8"`)
	refuse(w, http.StatusUnauthorized, errors.New("log in with a name and a password"))
	return "", false
}
