package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/fairlead-net/fairlead/internal/testport"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		os.Exit(beChild(dir))
	}
	testscript.Main(m, map[string]func(){"fairlead": ordinaryMain, "client": client})
}

func ordinaryMain() {
	becomeOrdinary()
	main()
}

// client is a program that gets a URL and prints the answer for as long as it comes.
func client() {
	resp, err := http.Get(os.Args[1])
	if err == nil {
		_, err = io.Copy(os.Stdout, resp.Body)
	}
	if err != nil {
		fmt.Println("broken off")
	}
}

// patience is how long a script waits for what should happen at once; it only matters when it does not.
const patience = 30 * time.Second

// The scripts are what a user types, as an ordinary user: nothing in them touches the kernel of the machine they run on.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("FAIRLEAD_SOCKET", filepath.Join(env.WorkDir, "s"))
			env.Setenv("XDG_STATE_HOME", filepath.Join(env.WorkDir, "state"))
			return openToOrdinary(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"freeport": scriptFreePort, "serve": scriptServe, "get": scriptGet, "await": scriptAwait, "code": scriptCode, "subst": scriptSubst, "signal": scriptSignal,
			"sessionid": scriptSessionID, "notify": scriptNotify, "notified": scriptNotified, "field": scriptField,
		},
	})
}

// freeport VAR...: ports of 127.0.0.1 that nobody listens on. All stay taken until each is found, so that they differ.
func scriptFreePort(ts *testscript.TestScript, _ bool, names []string) {
	for _, name := range names {
		port, err := testport.Free()
		ts.Check(err)
		ts.Setenv(name, port)
	}
}

// serve VAR BODY: an HTTP server on loopback that says BODY.
func scriptServe(ts *testscript.TestScript, _ bool, args []string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, args[1])
		if r.URL.Path == "/hang" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	})}
	go srv.Serve(ln)
	ts.Defer(func() { srv.Close() })
	ts.Setenv(args[0], ln.Addr().String())
}

// [!] get URL TEXT: asks until the answer has TEXT in it; with "!" until nobody answers any more.
func scriptGet(ts *testscript.TestScript, neg bool, args []string) {
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	last := ""
	if !retry(func() bool {
		resp, err := client.Get(args[0])
		if err != nil {
			last = err.Error()
			return neg
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		last = string(body)
		return !neg && strings.Contains(last, args[1])
	}) {
		ts.Fatalf("get %s: %s", args[0], last)
	}
}

// await PATTERN PROGRAM ARG...: runs the program until it succeeds and its output matches.
func scriptAwait(ts *testscript.TestScript, _ bool, args []string) {
	pattern := regexp.MustCompile("(?m)" + args[0])
	var out []byte
	var err error
	if !retry(func() bool {
		out, err = command(ts, args[1:]).CombinedOutput()
		return err == nil && pattern.Match(out)
	}) {
		ts.Fatalf("%s: %v\n%s", strings.Join(args[1:], " "), err, out)
	}
}

// code N PROGRAM ARG...: runs the program and expects exit code N.
func scriptCode(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	cmd := command(ts, args[1:])
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != want {
		ts.Fatalf("%s: exit code %d, want %d\n%s", strings.Join(args[1:], " "), got, want, out)
	}
}

// signal NAME WORD: sends a signal to the program in the background that was started with this argument.
func scriptSignal(ts *testscript.TestScript, _ bool, args []string) {
	signals := map[string]os.Signal{"INT": os.Interrupt, "TERM": syscall.SIGTERM, "HUP": syscall.SIGHUP}
	for _, cmd := range ts.BackgroundCmds() {
		if cmd.ProcessState == nil && slices.Contains(cmd.Args, args[1]) {
			ts.Check(cmd.Process.Signal(signals[args[0]]))
			return
		}
	}
	ts.Fatalf("no program %s runs in the background", args[1])
}

// field VAR N FILE: the N-th word of a file's first line.
func scriptField(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	words := strings.Fields(ts.ReadFile(args[2]))
	if len(words) < n {
		ts.Fatalf("%s has %d words", args[2], len(words))
	}
	ts.Setenv(args[0], words[n-1])
}

// sessionid VAR NAME: the id of the one session of a forward, once there is one.
func scriptSessionID(ts *testscript.TestScript, _ bool, args []string) {
	var out []byte
	if !retry(func() bool {
		var list struct{ Sessions []struct{ ID string } }
		out, _ = command(ts, []string{"fairlead", "sessions", args[1], "--json"}).Output()
		if json.Unmarshal(out, &list) != nil || len(list.Sessions) != 1 {
			return false
		}
		ts.Setenv(args[0], list.Sessions[0].ID)
		return true
	}) {
		ts.Fatalf("there is not one session: %s", out)
	}
}

// subst FILE...: puts the values of variables in for $NAME.
func scriptSubst(ts *testscript.TestScript, _ bool, files []string) {
	for _, file := range files {
		path := ts.MkAbs(file)
		text, err := os.ReadFile(path)
		ts.Check(err)
		ts.Check(os.WriteFile(path, []byte(os.Expand(string(text), ts.Getenv)), 0o644))
	}
}

func command(ts *testscript.TestScript, args []string) *exec.Cmd {
	path, err := exec.LookPath(filepath.Join(strings.Split(ts.Getenv("PATH"), string(filepath.ListSeparator))[0], args[0]))
	ts.Check(err)
	cmd := exec.Command(path, args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	for _, name := range []string{"PATH", "HOME", "WORK", "FAIRLEAD_SOCKET", "XDG_STATE_HOME", ordinaryEnv} {
		cmd.Env = append(cmd.Env, name+"="+ts.Getenv(name))
	}
	return cmd
}

// retry polls until done says so; it reports false when that takes too long.
func retry(done func() bool) bool {
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if done() {
			return true
		}
	}
	return false
}

func TestRunWithoutProcess(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run([]string{"no-such"}, &out, &errs); code != exitUsage || out.Len() > 0 || !strings.HasPrefix(errs.String(), "fairlead: there is no command") {
		t.Errorf("code %d, %q, %q", code, &out, &errs)
	}
}
