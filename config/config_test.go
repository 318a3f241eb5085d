package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

func TestParse(t *testing.T) {
	const text = `
forward.dotted.listen = "81"
forward.dotted.to = "h"
forward.inline = { listen = "82", to = ["h", "192.168.1.10:80"], enabled = false }

[forward.web]
listen = "80"
to = ":8080"
enabled = true
from = ["2001:db8::/32", "10.0.0.1", "10.0.0.0/8", "10.0.0.1/32", "::ffff:192.0.2.0/120", "::ffff:192.0.2.9"]
bandwidth = "1.5MB/s"
when = ["mon-fri 08:00-18:00", "sat"]
expires = 2030-01-01 00:00:00+02:00
max_connections = 1_000
at = "host"

[forward."a.b"]
listen = '''udp/53'''
to = "\u0068"
`
	cfg, err := config.Parse("x.toml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range cfg.Forwards {
		names = append(names, f.Name)
		if f.Origin != forward.OriginFile {
			t.Errorf("%s: origin %q", f.Name, f.Origin)
		}
	}
	if want := []string{"a.b", "dotted", "inline", "web"}; !slices.Equal(names, want) {
		t.Fatalf("names %q, want %q", names, want)
	}
	if f := cfg.Forwards[0]; f.Listen.String() != "udp/53" || f.To[0].String() != "h" {
		t.Errorf("a.b: %+v", f)
	}
	if f := cfg.Forwards[2]; !f.Disabled || len(f.To) != 2 {
		t.Errorf("inline: %+v", f)
	}
	web := cfg.Forwards[3]
	if got, want := strings.Join(config.SpecOf(web).From, " "), "10.0.0.0/8 10.0.0.1/32 192.0.2.0/24 192.0.2.9/32 2001:db8::/32"; got != want {
		t.Errorf("from: %s, want %s", got, want)
	}
	if web.Disabled || web.Bandwidth != 1_500_000 || web.MaxConnections != 1000 || web.ListensAt() != forward.Host ||
		!web.Expires.Equal(time.Date(2029, 12, 31, 22, 0, 0, 0, time.UTC)) || web.When.String() != "mon-fri 08:00-18:00, sat" {
		t.Errorf("web: %+v", web)
	}
}

// TestLocalExpiry: a date and time without a time zone is one of this host's.
func TestLocalExpiry(t *testing.T) {
	cfg, err := config.Parse("", []byte("[forward.a]\nlisten = \"80\"\nto = \"h\"\nexpires = 2030-06-01T12:30:00"))
	if err != nil {
		t.Fatal(err)
	}
	if want := time.Date(2030, 6, 1, 12, 30, 0, 0, time.Local); !cfg.Forwards[0].Expires.Equal(want) {
		t.Errorf("%v, want %v", cfg.Forwards[0].Expires, want)
	}
}

func TestEmpty(t *testing.T) {
	for _, text := range []string{"", "\n", "# nothing\n", "[forward]\n", "forward = {}", "\ufeff"} {
		cfg, err := config.Parse("x.toml", []byte(text))
		if err != nil || len(cfg.Forwards) != 0 {
			t.Errorf("%q: %v, %v", text, cfg, err)
		}
	}
}

// TestNoTie: what looks alike and is not the same traffic.
func TestNoTie(t *testing.T) {
	for _, text := range []string{
		"[forward.a]\nlisten=\"80\"\nto=\"h\"\n[forward.b]\nlisten=\"udp/80\"\nto=\"h\"",
		"[forward.a]\nlisten=\"80\"\nto=\"h\"\n[forward.b]\nlisten=\"80-90\"\nto=\"h\"",
		"[forward.a]\nlisten=\"80\"\nto=\"h\"\n[forward.b]\nlisten=\"80\"\nfrom=\"10.0.0.0/8\"\nto=\"h\"",
		"[forward.a]\nlisten=\"80\"\nto=\"h\"\n[forward.b]\nlisten=\"80\"\ninterface=\"eth0\"\nto=\"h\"",
		"[forward.a]\nlisten=\"80\"\nto=\"h\"\n[forward.b]\nlisten=\"192.0.2.1:80\"\nto=\"h\"",
		"[forward.a]\nlisten=\"0.0.0.0:80\"\nto=\"h\"\n[forward.b]\nlisten=\"[::]:80\"\nto=\"h\"",
		"[forward.a]\nlisten=\"80\"\nto=\"h\"\n[forward.b]\nlisten=\"80\"\nto=\"h\"\nenabled=false",
	} {
		if _, err := config.Parse("x.toml", []byte(text)); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// specKeys are the keys of Spec, as their tags say them.
func specKeys(t *testing.T) (keys []string) {
	t.Helper()
	for field := range reflect.TypeFor[config.Spec]().Fields() {
		inTOML, _, _ := strings.Cut(field.Tag.Get("toml"), ",")
		inJSON, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if inTOML == "" || inTOML != inJSON {
			t.Errorf("%s is %q in TOML and %q in JSON", field.Name, inTOML, inJSON)
		}
		keys = append(keys, inTOML)
	}
	return keys
}

func TestReference(t *testing.T) {
	cfg, err := config.Parse("reference.toml", config.Reference())
	if err != nil {
		t.Fatal(err)
	}
	if len(cfg.Forwards) == 0 {
		t.Error("the reference has no forwards")
	}
	// A key that is set to something other than its default in the reference cannot have been misread or forgotten.
	seen := map[string]bool{}
	for _, f := range cfg.Forwards {
		data, err := json.Marshal(config.SpecOf(f))
		if err != nil {
			t.Fatal(err)
		}
		var set map[string]any
		if err := json.Unmarshal(data, &set); err != nil {
			t.Fatal(err)
		}
		for key := range set {
			seen[key] = true
		}
	}
	for _, key := range specKeys(t) {
		if !seen[key] || !regexp.MustCompile(`(?m)^`+key+` += `).Match(config.Reference()) {
			t.Errorf("%s does not occur in reference.toml", key)
		}
		if config.Help(key) == "" {
			t.Errorf("%s has no help", key)
		}
		if key != "listen" && key != "to" {
			// Every key is known to the reader: one that it does not know is answered with "unknown key".
			_, err := config.Parse("x", []byte("[forward.a]\nlisten=\"80\"\nto=\"h\"\n"+key+" = []"))
			if err != nil && strings.Contains(err.Error(), "unknown") {
				t.Errorf("%s: %v", key, err)
			}
		}
	}
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no examples: %v", err)
	}
	for _, file := range files {
		cfg, err := config.Load(file)
		if err != nil {
			t.Error(err)
		} else if len(cfg.Forwards) == 0 {
			t.Errorf("%s has no forwards", file)
		}
		if data, err := os.ReadFile(file); err != nil || !strings.HasPrefix(string(data), "# ") {
			t.Errorf("%s does not begin by saying what it shows", file)
		}
	}
}

func TestJSON(t *testing.T) {
	var spec config.Spec
	const in = `{"listen":"80","to":"h","from":["10.0.0.1","10.0.0.2"],"enabled":false,"max_connections":5}`
	if err := json.Unmarshal([]byte(in), &spec); err != nil {
		t.Fatal(err)
	}
	f, err := spec.Forward("a", forward.OriginAPI)
	if err != nil {
		t.Fatal(err)
	}
	if !f.Disabled || f.Origin != forward.OriginAPI || len(f.To) != 1 || len(f.From) != 2 {
		t.Errorf("%+v", f)
	}
	out, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var again config.Spec
	if err := json.Unmarshal(out, &again); err != nil || !reflect.DeepEqual(again, spec) {
		t.Errorf("%s became %+v (%v)", out, again, err)
	}
	if json.Unmarshal([]byte(`{"to":5}`), &spec) == nil || json.Unmarshal([]byte(`{"to":[5]}`), &spec) == nil {
		t.Error("a number passed for a target")
	}
}

// TestRelayed reads what the relay alone honours, in every form that it may have.
func TestRelayed(t *testing.T) {
	cfg, err := config.Parse("x.toml", []byte(`
[forward.a]
listen = "tcp+udp/80"
to = ["192.168.1.10:81", "db.internal"]
connect_timeout = "1500ms"
idle_timeout = "1h30m"
udp_idle = "2d"
bandwidth_per_source = "8kbit"
balance = "least"
check = "http://app.example/health"
check_interval = "2s"
slow_start = "30s"
drain = "db.internal"
wake = ["AA-BB-CC-DD-EE-FF", "02:00:00:00:00:01"]
wake_timeout = "2m"
wake_password = "192.0.2.1"
fast_open = true
send_proxy = "v2"
accept_proxy = "10.0.0.0/8"
`))
	if err != nil {
		t.Fatal(err)
	}
	f := cfg.Forwards[0]
	if f.ConnectTimeout != 1500*time.Millisecond || f.IdleTimeout != 90*time.Minute || f.UDPIdle != 48*time.Hour || f.BandwidthPerSource != 1000 ||
		f.SlowStart != 30*time.Second || !f.FastOpen || !slices.Equal(f.Drain, f.To[1:]) {
		t.Errorf("%+v", f)
	}
	if want := (forward.Check{Kind: forward.CheckHTTP, Host: "app.example", Path: "/health", Interval: 2 * time.Second}); f.Check != want {
		t.Errorf("check %+v, want %+v", f.Check, want)
	}
	password, _ := forward.ParseWakePassword("192.0.2.1")
	if want := (forward.Wake{
		MACs: []forward.MAC{{0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff}, {2, 0, 0, 0, 0, 1}}, Timeout: 2 * time.Minute, Password: password,
	}); !f.Wake.Equal(want) {
		t.Errorf("wake %+v, want %+v", f.Wake, want)
	}
	checkRoundTrip(t, cfg)
}

// TestSecret: a Spec is stored and sent with its secret, and printed without it.
func TestSecret(t *testing.T) {
	spec := config.Spec{Listen: "80", To: config.Strings{"h"}, Wake: config.Strings{"02:00:00:00:00:01"}, WakePassword: "165.165.165.165"}
	inJSON, err := json.Marshal(spec)
	if err != nil {
		t.Fatal(err)
	}
	var again config.Spec
	if err := json.Unmarshal(inJSON, &again); err != nil || !reflect.DeepEqual(again, spec) {
		t.Errorf("%s is read otherwise (%v)", inJSON, err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", spec.WakePassword, "spec", spec)
	texts := []string{log.String()}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
		texts = append(texts, fmt.Sprintf(verb, spec), fmt.Sprintf(verb, spec.WakePassword))
	}
	for _, text := range texts {
		if !strings.Contains(text, forward.Secret) || strings.Contains(text, "165") || strings.Contains(text, "3136352e") {
			t.Errorf("not masked: %s", text)
		}
	}
	for _, bad := range []string{`"hunter2"`, "hunter2", "424242424", `["hunter2"]`, "{ hunter2 = 1 }"} {
		_, err := config.Parse("x", []byte("[forward.a]\nlisten=\"80\"\nto=\"h\"\nwake=\"02:00:00:00:00:01\"\nwake_password = "+bad))
		if err == nil {
			t.Fatalf("%s passed", bad)
		}
		if text := render(t, err); strings.Contains(text, "hunter2") || strings.Contains(text, "4242") {
			t.Errorf("an error repeats the password: %s", text)
		}
	}
}

func TestBandwidth(t *testing.T) {
	for _, test := range []struct {
		in    string
		bytes int64
		out   string
	}{
		{"10Mbit", 1_250_000, "10Mbit"},
		{"10 Mbit/s", 1_250_000, "10Mbit"},
		{"10Mbit/s", 1_250_000, "10Mbit"},
		{"1.5MB/s", 1_500_000, "12Mbit"},
		{"512kB", 512_000, "4096kbit"},
		{"1GiB", 1 << 30, "1073741824B"},
		{"1Gbit", 125_000_000, "1Gbit"},
		{"2Tbit", 250_000_000_000, "2000Gbit"},
		{"9bit", 1, "1B"},
		{"0.5KiB", 512, "512B"},
	} {
		got, err := config.ParseBandwidth(test.in)
		if err != nil || got != test.bytes || config.FormatBandwidth(got) != test.out {
			t.Errorf("%q: %d, %v, written %q; want %d, %q", test.in, got, err, config.FormatBandwidth(got), test.bytes, test.out)
		}
	}
	for _, bad := range []string{"Mbit", "-1Mbit", "1e3Mbit", "1.2.3Mbit", ".5Mbit", "5.Mbit", "10", "10mbit", "10Mbps", "1/s", "7bit", "9999999TB", "1Mbit/m", "Mbit10", "99999999999999999999999bit"} {
		if n, err := config.ParseBandwidth(bad); err == nil {
			t.Errorf("%q is %d", bad, n)
		}
	}
}
