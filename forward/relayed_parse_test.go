package forward_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

func TestParseDuration(t *testing.T) {
	for _, test := range []struct {
		in   string
		want time.Duration
		out  string
	}{
		{"", 0, ""},
		{"500ms", 500 * time.Millisecond, "500ms"},
		{"30s", 30 * time.Second, "30s"},
		{"5m", 5 * time.Minute, "5m"},
		{"90m", 90 * time.Minute, "90m"},
		{"1h30m", 90 * time.Minute, "90m"},
		{"2d", 48 * time.Hour, "2d"},
		{"1d0h0m1s1ms", 24*time.Hour + 1001*time.Millisecond, "86401001ms"},
		{"0m30s", 30 * time.Second, "30s"},
		{"365d", forward.MaxDuration, "365d"},
	} {
		got, err := forward.ParseDuration(test.in)
		if err != nil || got != test.want || forward.FormatDuration(got) != test.out {
			t.Errorf("%q: %v, %v, written %q; want %v, %q", test.in, got, err, forward.FormatDuration(got), test.want, test.out)
		}
	}
	for in, want := range map[string]string{
		"30":                    `write "30s" for seconds or "30m" for minutes`,
		"0s":                    "no time at all",
		"0d0s":                  "no time at all",
		"-5s":                   "negative",
		"1.5h":                  "no whole number",
		"1,5h":                  "no whole number",
		"s":                     "does not begin with a number",
		"soon":                  "does not begin with a number",
		"1h30":                  "ends where a unit should be",
		"5min":                  `"min" is no unit of time`,
		"5 s":                   `" s" is no unit of time`,
		"5M":                    "no unit of time",
		"1w":                    "no unit of time",
		"30m1h":                 "no order",
		"1s1s":                  "no order",
		"366d":                  "more than a year",
		"365d1ms":               "more than a year",
		"99999999999999999999d": "more than a year",
		"٣s":                    "does not begin with a number",
	} {
		if d, err := forward.ParseDuration(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want %q", in, d, err, want)
		}
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"30s", "1h30m", "2d", "500ms", "1d0h1ms", "0s", "-1s", "1.5h", "9999999999999999999s", "30m1h"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := forward.ParseDuration(s)
		if err != nil {
			return
		}
		if again, err := forward.ParseDuration(forward.FormatDuration(d)); err != nil || again != d || d < 0 || d > forward.MaxDuration || d == 0 && s != "" {
			t.Errorf("%q is %v is %v (%v)", s, d, again, err)
		}
	})
}

func parseCheck(t *testing.T, s string) forward.Check {
	t.Helper()
	c, err := forward.ParseCheck(s)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestParseCheck(t *testing.T) {
	http := func(host string, port uint16, path string) forward.Check {
		return forward.Check{Kind: forward.CheckHTTP, Host: host, Port: port, Path: path}
	}
	for in, want := range map[string]forward.Check{
		"":                               {},
		"connect":                        {Kind: forward.CheckConnect},
		"http://app.example/health":      http("app.example", 0, "/health"),
		"http://app.example":             http("app.example", 0, "/"),
		"HTTP://app.example:8080/a?b=c":  http("app.example:8080", 8080, "/a?b=c"),
		"http://app?b":                   http("app", 0, "/?b"),
		"http://192.0.2.1:80/%20":        http("192.0.2.1:80", 80, "/%20"),
		"http://[2001:db8::1]:81/":       http("[2001:db8::1]:81", 81, "/"),
		"http://[2001:db8::1]/":          http("[2001:db8::1]", 0, "/"),
		"http://app.example//double":     http("app.example", 0, "//double"),
		"http://app.example/%C3%A4%2fb?": http("app.example", 0, "/%C3%A4%2fb?"),
	} {
		got, err := forward.ParseCheck(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v; want %+v", in, got, err, want)
		}
		if again, err := forward.ParseCheck(got.String()); err != nil || again != got {
			t.Errorf("%q is written %q and read %+v, %v", in, got, again, err)
		}
	}
	for in, want := range map[string]string{
		"tcp":                                    "not known",
		"Connect":                                "not known",
		"ftp://h/":                               "not known",
		"http:/h":                                "not known",
		"https://h/":                             "https:// is not supported",
		"http://":                                "no host",
		"http:///health":                         "no host",
		"http://:80/":                            "no host",
		"http://h:/":                             "ends where its port should be",
		"http://h:0/":                            "no port",
		"http://h:65536/":                        "no port",
		"http://h:x/":                            "no URL",
		"http://u:p@h/":                          "user name",
		"http://h/#x":                            "'#'",
		"http://h/?a b":                          "%XX",
		"http://h/?ä":                            "%XX",
		"http://h/\r\nHost: x":                   "no URL",
		"http://h/?\x7f":                         "no URL",
		"http://a_b..c/":                         "neither",
		"http://[fe80::1%25eth0]/":               "zone",
		"http://[::1/":                           "no URL",
		"http://999.1.1.1/":                      "looks like an IP address",
		"http://h/" + strings.Repeat("a", 1<<12): "the most",
	} {
		if c, err := forward.ParseCheck(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v; want %q", in, c, err, want)
		}
	}
	if c := (forward.Check{}); !c.IsZero() || c.Every() != forward.DefaultCheckInterval {
		t.Errorf("%+v", c)
	}
	if c := (forward.Check{Interval: time.Minute}); c.IsZero() || c.Every() != time.Minute {
		t.Errorf("%+v", c)
	}
}

// FuzzParseCheck: what parses means the same when written down, and makes one line of a request.
func FuzzParseCheck(f *testing.F) {
	for _, s := range []string{"connect", "http://app.example:8080/a?b=c#d", "http://[::1]:80", "https://h", "http://u@h/", "http://h/%zz", "http://h?a b", "http://%68/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := forward.ParseCheck(s)
		if err != nil {
			return
		}
		if again, err := forward.ParseCheck(c.String()); err != nil || again != c {
			t.Errorf("%q is %+v is %+v (%v)", s, c, again, err)
		}
		if strings.ContainsFunc(c.Host+c.Path, func(r rune) bool { return r <= ' ' || r > '~' }) || c.Kind == forward.CheckHTTP && (c.Host == "" || c.Path[0] != '/') {
			t.Errorf("%q is %+v", s, c)
		}
	})
}

func TestCheckPort(t *testing.T) {
	for _, test := range []struct {
		listen, to, check string
		want              uint16
	}{
		{"80", "h", "connect", 80},
		{"80", "h:81", "connect", 81},
		{"80,90", "h:81", "connect", 81},
		{"80,90", "h", "connect", 0},
		{"*", "h", "connect", 0},
		{"80-90", "h:80-90", "connect", 0},
		{"80-90", "h:80-90", "http://h:85", 85},
		{"unix:/a", "h:81", "connect", 81},
	} {
		f := newForward(t, "a", test.listen, test.to)
		f.Check = parseCheck(t, test.check)
		if got := f.CheckPort(f.To[0]); got != test.want {
			t.Errorf("%s to %s, %s: %d, want %d", test.listen, test.to, test.check, got, test.want)
		}
	}
}

func TestParseMAC(t *testing.T) {
	for in, want := range map[string]string{
		"aa:bb:cc:dd:ee:ff": "aa:bb:cc:dd:ee:ff", "02-00-5E-00-53-80": "02:00:5e:00:53:80", "2:0:5e:0:53:80": "02:00:5e:00:53:80",
		"0200.5e00.5380": "02:00:5e:00:53:80", "02005E005380": "02:00:5e:00:53:80",
	} {
		if m, err := forward.ParseMAC(in); err != nil || m.String() != want {
			t.Errorf("%q: %v, %v", in, m, err)
		}
	}
	for _, in := range []string{
		"", "nas", "aa:bb:cc:dd:ee", "aa:bb:cc:dd:ee:ff:00", "aa:bb:cc:dd:ee:ff:00:11", "aa:bb:cc:dd:ee:fg", "aa:bb-cc:dd:ee:ff",
		"aa:bb:cc:dd:ee:", "aa:bb:cc:dd:ee:0ff", "aa:bb:cc:dd:ee:ff ", "aa bb cc dd ee ff", "+a:bb:cc:dd:ee:ff", "a\x10:bb:cc:dd:ee:ff",
		"aa.bb.cc.dd.ee.ff", "aab.ccdd.eeff", "aabb.ccdd.eeff.", "aabbccddeef", "0xaabbccddee",
		"00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01",
	} {
		if m, err := forward.ParseMAC(in); err == nil {
			t.Errorf("%q is %v", in, m)
		}
	}
}

func FuzzParseMAC(f *testing.F) {
	for _, s := range []string{"aa:bb:cc:dd:ee:ff", "02-00-5E-00-53-80", "ff:ff:ff:ff:ff:ff", "192.0.2.1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if m, err := forward.ParseMAC(s); err == nil {
			if again, err := forward.ParseMAC(m.String()); err != nil || again != m {
				t.Errorf("%q is %v is %v (%v)", s, m, again, err)
			}
		}
		if p, err := forward.ParseWakePassword(s); err == nil {
			if again, err := forward.ParseWakePassword(p.Reveal()); err != nil || again != p {
				t.Errorf("%q is read again as another (%v)", s, err)
			}
		}
	})
}

func TestWakePassword(t *testing.T) {
	for in, want := range map[string]string{"": "[]", "00:01:02:03:04:ff": "[0 1 2 3 4 255]", "192.0.2.1": "[192 0 2 1]", "0.0.0.0": "[0 0 0 0]"} {
		p, err := forward.ParseWakePassword(in)
		if err != nil || fmt.Sprintf("%d", p.Bytes()) != want || p.Reveal() != in || p.IsZero() != (in == "") {
			t.Errorf("%q: %v, %q, %v", in, p.Bytes(), p.Reveal(), err)
		}
	}
	for _, in := range []string{"hunter2", "2001:db8::1", "198.51.100", "11:22:33:44:55"} {
		if _, err := forward.ParseWakePassword(in); err == nil || strings.Contains(err.Error(), in) {
			t.Errorf("%q: %v", in, err)
		}
	}
}

// TestWakePasswordIsMasked prints one in every way there is, alone and as part of a forward.
func TestWakePasswordIsMasked(t *testing.T) {
	f := newForward(t, "a", "80", "h")
	var err error
	if f.Wake.Password, err = forward.ParseWakePassword("165.165.165.165"); err != nil {
		t.Fatal(err)
	}
	inJSON, err := json.Marshal(f)
	if err != nil {
		t.Fatal(err)
	}
	texts := []string{string(inJSON)}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%d", "%x", "%X", "%o", "%b", "%c", "%U"} {
		texts = append(texts, fmt.Sprintf(verb, f.Wake.Password), fmt.Sprintf(verb, f.Wake), fmt.Sprintf(verb, *f))
	}
	for _, text := range texts {
		if !strings.Contains(text, forward.Secret) {
			t.Errorf("not masked: %s", text)
		}
		for _, leak := range []string{"165", "a5", "A5", "245", "10100101", "¥"} {
			if strings.Contains(text, leak) {
				t.Errorf("%q in %s", leak, text)
			}
		}
	}
	if s := fmt.Sprintf("%v", forward.WakePassword{}); s != "" {
		t.Errorf("no password is %q", s)
	}
}
