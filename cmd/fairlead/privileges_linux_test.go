package main

import (
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// childEnv makes the test program a child that drops its privileges and prints what every thread has left. It holds the
// directory to hand over.
const childEnv = "FAIRLEAD_TEST_CHILD"

func beChild(dir string) int {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	to := target{name: "nobody", uid: nobody, gid: nobody, asked: true, give: func(uid, gid int) error { return giveState(dir, uid, gid) }}
	if dir == "stay" {
		to = target{}
	}
	if err := dropPrivileges(log, to); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	threads, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(threads) < 2 {
		fmt.Fprintln(os.Stderr, "want several threads:", threads, err)
		return 1
	}
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		os.Stdout.Write(text)
	}
	return 0
}

func TestDropPrivileges(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("FAIRLEAD_NETNS") == "require" {
			t.Fatal("dropping privileges needs root")
		}
		t.Skip("dropping privileges needs root")
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "fairlead.db"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	const kept = 1<<unix.CAP_NET_ADMIN | 1<<unix.CAP_NET_BIND_SERVICE
	for _, tt := range []struct {
		env string
		uid int
	}{{"stay", 0}, {dir, nobody}} {
		cmd := exec.Command(os.Args[0])
		cmd.Env = []string{childEnv + "=" + tt.env}
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v", tt.env, err)
		}
		caps := fmt.Sprintf("%016x", kept)
		want := map[string]string{
			"Uid": fmt.Sprintf("%[1]d\t%[1]d\t%[1]d\t%[1]d", tt.uid), "Gid": fmt.Sprintf("%[1]d\t%[1]d\t%[1]d\t%[1]d", tt.uid),
			"CapInh": fmt.Sprintf("%016x", 0), "CapPrm": caps, "CapEff": caps, "CapBnd": caps, "CapAmb": fmt.Sprintf("%016x", 0), "NoNewPrivs": "1",
		}
		if tt.uid != 0 {
			want["Groups"] = ""
		}
		for line := range strings.Lines(string(out)) {
			key, value, _ := strings.Cut(line, ":")
			if expect, ok := want[key]; ok && strings.TrimSpace(value) != expect {
				t.Errorf("%s: %s is %q, want %q", tt.env, key, strings.TrimSpace(value), expect)
			}
		}
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(dir, "fairlead.db"), &st); err != nil || st.Uid != nobody {
		t.Errorf("the state belongs to %d, %v", st.Uid, err)
	}
}
