package hub

import (
	"errors"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/tunnel"
)

func TestToken(t *testing.T) {
	made := newToken(tunnel.Key{1, 2, 3})
	text := made.String()
	if got, err := ParseToken(text); err != nil || got != made {
		t.Errorf("%+v, %v; want %+v", got, err, made)
	}
	if strings.ContainsAny(text, "+/= ") || len(text) != 80 {
		t.Errorf("%q is not one word of 80 letters", text)
	}
	for i := range text {
		other := byte('A')
		if text[i] == other {
			other = 'B'
		}
		if _, err := ParseToken(text[:i] + string(other) + text[i+1:]); !errors.Is(err, ErrToken) {
			t.Errorf("with letter %d changed: %v", i, err)
		} else if strings.Contains(err.Error(), text[50:]) {
			t.Error("the error repeats the secret")
		}
	}
	for _, bad := range []string{"", text[1:], text + "A", text[:79] + "=", strings.Repeat("é", 40)} {
		if _, err := ParseToken(bad); !errors.Is(err, ErrToken) {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got, ok := parseSecret(made.Secret()); !ok || got.ID != made.ID || got.Key != made.Key || !got.Hub.IsZero() {
		t.Errorf("%+v, %v", got, ok)
	}
}

func FuzzToken(f *testing.F) {
	f.Add(newToken(tunnel.Key{1}).String())
	f.Add(newToken(tunnel.Key{2}).Secret())
	f.Fuzz(func(t *testing.T, text string) {
		if got, err := ParseToken(text); err == nil && got.String() != text {
			t.Errorf("%q became %q", text, got.String())
		}
		if got, ok := parseSecret(text); ok && got.Secret() != text {
			t.Errorf("%q became %q", text, got.Secret())
		}
	})
}
