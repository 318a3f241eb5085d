package kernel

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/forward"
)

func TestSmoke(t *testing.T) {
	want := []*forward.Forward{
		mustForward(t, "app", "443", ":8443"),
		mustForward(t, "dmz", "tcp+udp/*", "192.168.1.50"),
		mustForward(t, "game", "tcp+udp/27015-27030", "192.168.1.20"),
		mustForward(t, "shift", "9000-9003", "192.168.1.20:7000-7003"),
		mustForward(t, "web", "80", "192.168.1.10:8080"),
		mustForward(t, "web6", "[2001:db8::1]:80", "[fd00::1]:8080"),
	}
	c := New(Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	for n, e := range c.Apply(context.Background(), want) {
		t.Error(n, e)
	}
	out, _ := exec.Command("nft", "-j", "list", "ruleset").CombinedOutput()
	var a, b any
	json.Unmarshal(out, &a)
	rs, _ := Compile(DefaultTable, want, hostInterfaces())
	var buf bytes.Buffer
	rs.WriteNFT(&buf)
	if err := c.Clear(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = &buf
	if o, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(o))
	}
	l1, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
	exec.Command("nft", "delete", "table", "inet", "fairlead").Run()
	c.known = false
	c.Apply(context.Background(), want)
	l2, _ := exec.Command("nft", "list", "ruleset").CombinedOutput()
	os.WriteFile("/tmp/p/l1", l1, 0o644)
	os.WriteFile("/tmp/p/l2", l2, 0o644)
	if !bytes.Equal(l1, l2) {
		t.Error("differ")
	}
	_ = b
}

func TestBig(t *testing.T) {
	var want []*forward.Forward
	n := 60000
	for i := range n {
		want = append(want, mustForward(t, fmt.Sprintf("f%05d", i), fmt.Sprint(i+1), fmt.Sprintf("10.1.%d.%d:80", i/250, i%250+1)))
	}
	c := New(Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	b := time.Now()
	for n, e := range c.Apply(context.Background(), want) {
		t.Fatal(n, e)
	}
	t.Log("cold", time.Since(b))
	for i := range 5 {
		w2 := append(append([]*forward.Forward{}, want...), mustForward(t, fmt.Sprintf("g%d", i), fmt.Sprint(60001+i), "10.9.9.9:80"))
		b = time.Now()
		for n, e := range c.Apply(context.Background(), w2) {
			t.Fatal(n, e)
		}
		t.Log("add", time.Since(b))
		want = w2
	}
	b = time.Now()
	c.Stats()
	t.Log("stats", time.Since(b))
	c2 := New(Options{Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))})
	b = time.Now()
	c2.Apply(context.Background(), want)
	t.Log("adopt", time.Since(b))
	b = time.Now()
	c2.Clear()
	t.Log("clear", time.Since(b))
}
