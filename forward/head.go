package forward

import (
	"fmt"
	"io"
	"slices"
)

// A Head is a protocol in which each client says itself where it wants to go. A forward with one is a dynamic forward.
type Head uint8

// The heads, as they are written in to.
const (
	HeadNone  Head = iota // the target is fixed
	HeadSocks             // "socks": SOCKS 4, 4a and 5
	HeadHTTP              // "http": a proxy for HTTP, CONNECT included
	HeadProxy             // "proxy": both on one port, told apart by the first byte
)

var headWords = []string{"", "socks", "http", "proxy"}

func (h Head) String() string { return headWords[h] }

// headOf is the head that a word of to stands for, HeadNone for every other word.
func headOf(word string) Head { return Head(max(0, slices.Index(headWords, word))) }

// Dynamic is the head of a dynamic forward, HeadNone for every other one.
func (f *Forward) Dynamic() Head {
	if len(f.To) == 0 {
		return HeadNone
	}
	return f.To[0].Head
}

// NeedsLogin reports whether clients of a dynamic forward have to log in: those that may come from beyond this host do, and
// all do where Users says who they are.
func (f *Forward) NeedsLogin() bool {
	local := f.Listen.IsUnix() || f.Listen.Addr.IsLoopback()
	return len(f.Users) > 0 || !local && !f.Anyone
}

func (f *Forward) validateDynamic(bad func(field, format string, args ...any)) {
	head := f.Dynamic()
	if head == HeadNone {
		if slices.ContainsFunc(f.To, func(t Target) bool { return t.Head != HeadNone }) {
			bad("to", "a proxy stands alone in to: each client says where it goes")
		}
		for _, key := range []struct {
			field string
			set   bool
		}{
			{"users", len(f.Users) > 0 && f.Site.Auth != AuthBasic}, {"permit", len(f.Policy.Permit) > 0}, {"deny", len(f.Policy.Deny) > 0},
			{"pac", f.PAC.Serve}, {"direct", len(f.PAC.Direct) > 0}, {"through", len(f.PAC.Through) > 0},
		} {
			if key.set {
				bad(key.field, "%s is for a proxy: to = \"socks\", \"http\" or \"proxy\"", key.field)
			}
		}
		return
	}
	if len(f.To) > 1 {
		bad("to", "a proxy stands alone in to: each client says where it goes")
	}
	if f.Listen.Networks&UDP != 0 {
		bad("listen", "proxies are called by tcp; UDP goes through the ports that they give out (SOCKS 5, UDP ASSOCIATE)")
	}
	if f.Listen.Ports.All {
		bad("listen", "a proxy has a port of its own, such as \"127.0.0.1:1080\"")
	}
	for _, key := range []struct {
		field string
		set   bool
	}{
		{"send_proxy", f.SendProxy != 0}, {"check", f.Check.Kind != CheckNone}, {"wake", len(f.Wake.MACs) > 0}, {"fast_open", f.FastOpen}, {"drain", len(f.Drain) > 0},
	} {
		if key.set {
			bad(key.field, "%s is for a fixed target, and clients of a proxy say themselves where they go", key.field)
		}
	}
	if f.Source == SourceKeep {
		bad("source", "a proxy dials from this host's own address")
	}
	if !f.PAC.Serve && (len(f.PAC.Direct) > 0 || len(f.PAC.Through) > 0) {
		bad("pac", "direct and through are what the PAC file says; write pac = true")
	}
	if f.PAC.Serve && f.Listen.IsUnix() {
		bad("pac", "browsers do not call a unix socket")
	}
}

// PAC is the proxy auto-config file that a dynamic forward serves to browsers, at /proxy.pac of its own port.
type PAC struct {
	Serve   bool
	Direct  []Rule // what browsers reach without the proxy
	Through []Rule // what goes through the proxy; none: everything that is not Direct
}

// Equal reports whether p and q are the same file.
func (p PAC) Equal(q PAC) bool {
	return p.Serve == q.Serve && slices.Equal(p.Direct, q.Direct) && slices.Equal(p.Through, q.Through)
}

// A User may use dynamic forwards.
type User struct {
	Name     string
	Password PasswordHash
	Policy   Policy
}

// Equal reports whether u and v are the same user with the same rights.
func (u User) Equal(v User) bool {
	return u.Name == v.Name && u.Password == v.Password && u.Policy.Equal(v.Policy)
}

// A PasswordHash is what package password makes of a password. However it is printed, it is "***"; Reveal alone says it.
type PasswordHash string

// Reveal is the hash itself.
func (p PasswordHash) Reveal() string { return string(p) }

func (p PasswordHash) String() string {
	if p == "" {
		return ""
	}
	return Secret
}

// Format prints String, whatever the verb is: %d or %#v would print the hash.
func (p PasswordHash) Format(w fmt.State, _ rune) { _, _ = io.WriteString(w, p.String()) }

// MarshalText is String, for JSON and logs.
func (p PasswordHash) MarshalText() ([]byte, error) { return []byte(p.String()), nil }
