package forward_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestParseMAC(t *testing.T) {
	want := forward.MAC{0x52, 0x54, 0x00, 0x12, 0x34, 0xab}
	for _, s := range []string{
		"52:54:00:12:34:ab", "52:54:00:12:34:AB", "52:54:0:12:34:ab", "52-54-00-12-34-ab", "5254.0012.34ab", "5254.0012.34Ab", "5254001234ab",
	} {
		if m, err := forward.ParseMAC(s); err != nil || m != want {
			t.Errorf("ParseMAC(%q) = %v, %v", s, m, err)
		}
	}
	if got := want.String(); got != "52:54:00:12:34:ab" {
		t.Errorf("String() = %q", got)
	}
}

func TestParseMACRefuses(t *testing.T) {
	for _, s := range []string{
		"", "nas", "52:54:00:12:34", "52:54:00:12:34:ab:cd", "52:54:00:12:34:ab:cd:ef", "52:54:00:12:34:", "52:54:00:12:34:0ab",
		"52:54:00:12:34:+b", "52:54:00:12:34-ab", "52:54:00:12:34:ab ", "52:54:00:12:34:\x10b", "5254.0012.34ab.", "52.54.00.12.34.ab",
		"525.0012.34ab", "5254001234a", "0x54001234ab", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01",
	} {
		if m, err := forward.ParseMAC(s); err == nil || m != (forward.MAC{}) {
			t.Errorf("ParseMAC(%q) = %v, %v", s, m, err)
		}
	}
}

func TestParseWakePassword(t *testing.T) {
	for s, want := range map[string][]byte{
		"":                  {},
		"01:02:03:04:05:06": {1, 2, 3, 4, 5, 6},
		"01-02-03-04-05-06": {1, 2, 3, 4, 5, 6},
		"192.0.2.1":         {192, 0, 2, 1},
		"00:00:00:00:00:00": {0, 0, 0, 0, 0, 0}, // a password of its own, not none
	} {
		p, err := forward.ParseWakePassword(s)
		if err != nil || !bytes.Equal(p.Bytes(), want) || p.IsZero() != (s == "") {
			t.Errorf("ParseWakePassword(%q) = % x, %v", s, p.Bytes(), err)
		}
	}
	for _, s := range []string{"secret", "01:02:03:04:05", "1.2.3", "1.2.3.256", "::1", "0102030405061"} {
		p, err := forward.ParseWakePassword(s)
		if err == nil || !p.IsZero() {
			t.Errorf("ParseWakePassword(%q) = % x, %v", s, p.Bytes(), err)
		} else if strings.Contains(err.Error(), s) {
			t.Errorf("ParseWakePassword(%q) repeats it: %v", s, err)
		}
	}
}

// A password is in structures that are printed whole.
func TestWakePasswordDoesNotShow(t *testing.T) {
	p, err := forward.ParseWakePassword("192.0.2.1")
	if err != nil {
		t.Fatal(err)
	}
	w := forward.Wake{Password: p}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("waking", "password", p, "in", w)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("waking", "password", p, "in", w)
	for _, text := range []string{
		fmt.Sprint(p), fmt.Sprintf("%v %+v %#v %s %q %x %d", p, p, p, p, p, p, p), fmt.Sprintf("%v %+v %#v %d", w, w, w, w), log.String(),
	} {
		for _, secret := range []string{"192", "c0"} {
			if strings.Contains(text, secret) {
				t.Errorf("it shows: %s", text)
			}
		}
	}
	if p.String() == "" || (forward.WakePassword{}).String() != "" {
		t.Error("whether there is one must show")
	}
}

func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"52:54:00:12:34:ab", "52-54-0-12-34-AB", "5254.0012.34ab", "5254001234ab", "ff:ff:ff:ff:ff:ff", ":::::", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := forward.ParseMAC(s)
		if err != nil {
			return
		}
		if m == (forward.MAC{}) || m[0]&1 != 0 {
			t.Errorf("ParseMAC(%q) = %v, which no card has", s, m)
		}
		if again, err := forward.ParseMAC(m.String()); err != nil || again != m {
			t.Errorf("ParseMAC(%q) = %v, and that is read as %v, %v", s, m, again, err)
		}
	})
}

func FuzzParseWakePassword(f *testing.F) {
	for _, s := range []string{"01:02:03:04:05:06", "192.0.2.1", "::ffff:192.0.2.1", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := forward.ParseWakePassword(s)
		if err != nil {
			return
		}
		if n := len(p.Bytes()); n != 0 && n != 4 && n != 6 || p.IsZero() != (s == "") {
			t.Errorf("ParseWakePassword(%q) has %d bytes", s, n)
		}
		if again, err := forward.ParseWakePassword(p.Reveal()); err != nil || again != p {
			t.Errorf("ParseWakePassword(%q) is revealed as something else", s)
		}
	})
}
