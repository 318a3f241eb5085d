package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
)

// FuzzParse: no input makes the parser panic; every error has a place inside the input and is one line; and what parses
// is TOML to others too, and survives being written down.
func FuzzParse(f *testing.F) {
	for _, glob := range []string{"testdata/bad/*.toml", "../examples/*.toml", "reference.toml"} {
		files, err := filepath.Glob(glob)
		if err != nil || len(files) == 0 {
			f.Fatalf("%s: no seeds (%v)", glob, err)
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		cfg, err := config.Parse("x", data)
		if err != nil {
			checkErrors(t, data, err)
			return
		}
		if bytes.Count(data, []byte("[")) < 1000 { // it takes the square of the number of tables
			if err := toml.Unmarshal(bytes.TrimPrefix(data, []byte("\ufeff")), new(map[string]any)); err != nil {
				t.Errorf("parsed, but is no TOML: %v", err)
			}
		}
		checkRoundTrip(t, cfg)
	})
}

func checkErrors(t *testing.T, data []byte, err error) {
	t.Helper()
	var errs config.Errors
	if !errors.As(err, &errs) || len(errs) == 0 || len(errs) > 21 {
		t.Fatalf("%T: %v", err, err)
	}
	lines := bytes.Split(bytes.TrimPrefix(data, []byte("\ufeff")), []byte("\n"))
	for i, e := range errs {
		if strings.ContainsAny(e.Error()+e.Hint, "\n\x00") {
			t.Errorf("more than a line: %q, %q", e, e.Hint)
		}
		if i < 20 && e.Hint == "" {
			t.Errorf("no hint: %v", e)
		}
		if e.Line == 0 && i < 20 {
			t.Errorf("no place: %v", e)
		} else if e.Line > 0 && (e.Line > len(lines) || e.Column < 1 || e.Column > len(lines[e.Line-1])+1) {
			t.Errorf("a place outside of the file: %v", e)
		}
	}
}

// checkRoundTrip writes forwards down as one TOML file, with nodes and users of the names that are declared, and reads it again.
func checkRoundTrip(t *testing.T, cfg *config.Config) {
	t.Helper()
	doc := map[string]map[string]any{"forward": {}, "node": {}, "users": {}}
	for _, f := range cfg.Forwards {
		spec := config.SpecOf(f)
		g, err := spec.Forward(f.Name, f.Origin)
		if err != nil || !f.Equal(g) {
			t.Fatalf("%+v was written %+v and read %+v (%v)", f, spec, g, err)
		}
		inJSON, err := json.Marshal(spec)
		var stored config.Spec
		if err != nil || json.Unmarshal(inJSON, &stored) != nil || !reflect.DeepEqual(spec, stored) {
			t.Fatalf("%+v was stored %s and read %+v (%v)", spec, inJSON, stored, err)
		}
		doc["forward"][f.Name] = spec
	}
	for _, n := range cfg.Settings.Nodes {
		switch {
		case n.SSH != nil:
			doc["node"][n.Name] = map[string]string{"ssh": n.SSH.Target}
		case n.Hub.Agent != "":
			doc["node"][n.Name] = map[string]string{"hub": n.Hub.Agent}
		default:
			doc["agent"] = map[string]any{}
		}
	}
	if h := cfg.Settings.Hub; h != nil {
		_, listen, _ := strings.Cut(h.Listen.String(), "/")
		doc["hub"] = map[string]any{"listen": listen}
	}
	for _, u := range cfg.Settings.Users {
		doc["users"][u.Name] = map[string]string{"password": u.Password.Reveal()}
	}
	if o := cfg.Settings.OIDC; o != (config.OIDC{}) {
		doc["oidc"] = map[string]any{"issuer": o.Issuer, "client_id": o.ClientID, "client_secret": string(o.ClientSecret)}
	}
	text, err := toml.Marshal(doc)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse("again", text)
	if err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	if len(again.Forwards) != len(cfg.Forwards) || len(again.Settings.Nodes) != len(cfg.Settings.Nodes) || len(again.Settings.Users) != len(cfg.Settings.Users) {
		t.Fatalf("%d forwards became %d, or nodes or users did:\n%s", len(cfg.Forwards), len(again.Forwards), text)
	}
	for i, f := range again.Forwards {
		if !f.Equal(cfg.Forwards[i]) {
			t.Errorf("%+v became %+v", cfg.Forwards[i], f)
		}
	}
}

// TestRoundTrip writes and reads random combinations of every key.
func TestRoundTrip(t *testing.T) {
	pick := func(r *rand.Rand, list ...string) string { return list[r.IntN(len(list))] }
	some := func(r *rand.Rand, list ...string) (s config.Strings) {
		for _, item := range list {
			if r.IntN(3) == 0 {
				s = append(s, item)
			}
		}
		return s
	}
	drained := func(r *rand.Rand) config.Strings {
		if r.IntN(6) > 0 {
			return nil
		}
		return config.Strings{"192.168.1.10:81"}
	}
	good, dynamic := 0, 0
	for seed := range uint64(5000) {
		r := rand.New(rand.NewPCG(seed, 1))
		no := false
		spec := config.Spec{
			Listen: pick(r, "80", "tcp/80,443, 8000-8010", "udp/192.0.2.1:53", "tcp+udp/[2001:db8::1]:9000-9010", "*", "unix:/run/a b.sock", "[::ffff:192.0.2.1]:80"),
			To: some(r, "192.168.1.10", "192.168.1.10:81", ":8443", "[2001:db8::1]:80", "2001:db8::1", "db.internal:5432", "unix:/run/x:1.sock",
				"192.168.1.10:7000-7010", "fe80::1%eth0"),
			At: pick(r, "", "", "host", "bastion"), Via: pick(r, "", "", "host", "bastion"), Balance: pick(r, "", "failover", "round-robin", "least", "source"),
			From: some(r, "10.0.0.0/8", "10.0.0.1", "::/0", "0.0.0.0/0"), Except: some(r, "10.0.0.7", "2001:db8::/64"),
			Interface: pick(r, "", "", "eth0", "br-lan.10"), Carry: pick(r, "", "auto", "kernel", "relay"),
			Expires: pick(r, "", "", "2030-01-01T00:00:00.5+05:30"), When: some(r, "mon", "fri 22:00-06:00, 08:00-09:00"),
			MaxConnections: r.IntN(3) / 2, MaxPerSource: r.IntN(3) / 2, Bandwidth: pick(r, "", "", "1.5MB", "10Mbit", "1bit", "1001B"),
			Source: pick(r, "", "auto", "keep", "rewrite"), SendProxy: pick(r, "", "", "v1", "v2"), AcceptProxy: some(r, "10.0.0.0/8"),
			ConnectTimeout: pick(r, "", "", "", "1500ms"), IdleTimeout: pick(r, "", "", "", "1h30m"), UDPIdle: pick(r, "", "", "", "2d"),
			BandwidthPerSource: pick(r, "", "", "", "1001B"), SlowStart: pick(r, "", "", "", "30s"), FastOpen: r.IntN(8) == 0,
			Check: pick(r, "", "", "", "connect", "http://app.example:8080/a?b=%20c"), Drain: drained(r),
		}
		if spec.Check != "" && r.IntN(2) == 0 {
			spec.CheckInterval = "500ms"
		}
		if r.IntN(6) == 0 {
			spec.Wake = config.Strings{pick(r, "02:00:00:00:00:01", "02-00-00-00-00-AB")}
			spec.WakeTimeout = pick(r, "", "90s")
			spec.WakePassword = config.Secret(pick(r, "", "00:01:02:03:04:05", "192.0.2.1"))
		}
		if r.IntN(3) == 0 {
			spec.To = config.Strings{pick(r, "socks", "http", "proxy")}
			spec.Users, spec.Permit = some(r, "anna", "ben"), some(r, "*", "*.example.com:443", "10.0.0.0/8", "[2001:db8::]/32:80-89")
			spec.Deny, spec.PAC = some(r, "192.0.2.7", "DB.internal."), r.IntN(2) == 0
			if spec.PAC {
				spec.Direct, spec.Through = some(r, "*.lan", "192.168.0.0/16"), some(r, "2001:db8::1", "*:80")
			}
		}
		if r.IntN(2) == 0 {
			spec.Enabled = &no
		}
		f, err := spec.Forward(fmt.Sprintf("f%d", seed), forward.OriginFile)
		if err != nil || config.CheckNodes(f, declaring(t).Settings) != nil {
			continue
		}
		if f.Dynamic() != forward.HeadNone {
			dynamic++
		}
		good++
		checkRoundTrip(t, declaring(t, f))
	}
	if good < 200 || dynamic < 20 {
		t.Errorf("only %d of the combinations were possible, %d of them proxies; the test has lost its reach", good, dynamic)
	}
}

// declaring is a configuration with two users, a node and these forwards.
func declaring(t *testing.T, forwards ...*forward.Forward) *config.Config {
	t.Helper()
	cfg, err := config.Parse("x", []byte("[node.bastion]\nssh = \"b.example\"\n[users.anna]\npassword = \""+hash+"\"\n[users.ben]\npassword = \""+hash+"\"\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Forwards = forwards
	return cfg
}

func TestManyForwards(t *testing.T) {
	data := manyForwards(config.MaxForwards)
	start := time.Now()
	cfg, err := config.Parse("x", data)
	if err != nil || len(cfg.Forwards) != config.MaxForwards {
		t.Fatal(err)
	}
	t.Logf("%d forwards in %d bytes took %v", len(cfg.Forwards), len(data), time.Since(start))
}

func BenchmarkParse60k(b *testing.B) {
	data := manyForwards(60_000)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := config.Parse("x", data); err != nil {
			b.Fatal(err)
		}
	}
}

// TestManyMistakes: what takes long to find out is found out for the mistakes that are shown.
func TestManyMistakes(t *testing.T) {
	var b bytes.Buffer
	for i := range config.MaxNodes {
		fmt.Fprintf(&b, "[node.%060d]\nssh = \"a.example\"\njump = \"%060d\"\n", i, (i+1)%config.MaxNodes)
	}
	for i := range 20_000 {
		fmt.Fprintf(&b, "[forward.f%d]\nlisten = \"10.0.%d.%d:80\"\nto = \"socks\"\nvia = \"%061d\"\nusers = \"%060d\"\n", i, i>>8, i&255, i, i)
	}
	if _, err := config.Parse("x", b.Bytes()); err == nil {
		t.Error("parsed")
	} else if text := render(t, err); !strings.Contains(text, "in a circle") || !strings.Contains(text, "and 39981 more") {
		t.Errorf("%s", text)
	}
}

// BenchmarkParse60kBad has a mistake in every forward: what goes wrong must not take long either.
func BenchmarkParse60kBad(b *testing.B) {
	data := bytes.ReplaceAll(manyForwards(60_000), []byte("\nto"), []byte("\ntoo"))
	for b.Loop() {
		if _, err := config.Parse("x", data); err == nil {
			b.Fatal("parsed")
		}
	}
}
