package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/table"
)

// raw is a request as any program could send it, and the answer.
func raw(t *testing.T, path, request string) (*http.Response, string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	return readResponse(t, c)
}

func readResponse(t *testing.T, c net.Conn) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(text)
}

// The shape that DESIGN.md fixes: programs read it.
func TestStatusJSON(t *testing.T) {
	f := mustForward(t, "web", "80", "192.168.1.10:8080")
	ends := *mustForward(t, "x", "unix:/run/x", "db.internal:5432")
	ends.Expires = time.Date(2027, 1, 31, 19, 0, 0, 5, time.FixedZone("", 3600))
	tab := &fakeTable{all: map[string]table.Status{
		"web": {Forward: f, Carried: forward.CarryKernel, Why: "plain host to host", State: forward.StateUp,
			Stats: forward.Stats{Open: 3, Total: 120, BytesIn: 1, BytesOut: 2}, Since: time.Date(2026, 11, 22, 10, 0, 0, 9, time.UTC)},
		"x": {Forward: &ends, State: forward.StateWaiting, Detail: "closed"},
	}}
	path := serve(t, Options{Table: tab, Sessions: fakeSessions{{
		ID: "r1", Forward: "web", Network: forward.TCP, Client: "192.0.2.1:5", Target: "192.168.1.10:8080", Carried: forward.CarryRelay, BytesIn: 7,
	}}})
	for get, want := range map[string]string{
		"/v1/status": `{"forwards":[{"name":"web","origin":"file","listen":"tcp/80","to":["192.168.1.10:8080"],"at":"host","via":"host",
 "carried":"kernel","why":"plain host to host","state":"up","detail":"","connections":{"open":3,"total":120,"refused":0},
 "bytes":{"in":1,"out":2},"since":"2026-11-22T10:00:00Z","expires":null},
 {"name":"x","origin":"file","listen":"unix:/run/x","to":["db.internal:5432"],"at":"host","via":"host",
 "carried":"","why":"","state":"waiting","detail":"closed","connections":{"open":0,"total":0,"refused":0},
 "bytes":{"in":0,"out":0},"since":null,"expires":"2027-01-31T18:00:00Z"}]}`,
		"/v1/sessions?forward=web": `{"sessions":[{"id":"r1","forward":"web","network":"tcp","client":"192.0.2.1:5","target":"192.168.1.10:8080",
 "carried":"relay","since":null,"bytes":{"in":7,"out":0}}]}`,
		"/v1/sessions?forward=x": `{"sessions":[]}`,
	} {
		_, got := raw(t, path, "GET "+get+" HTTP/1.1\r\nHost: fairlead\r\n\r\n")
		if compact(t, got) != compact(t, want) {
			t.Errorf("%s:\ngot  %s\nwant %s", get, compact(t, got), compact(t, want))
		}
	}
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	var v json.RawMessage
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	for line := range strings.Lines(text) {
		out.WriteString(strings.TrimSpace(line))
	}
	return out.String()
}

func TestRefusals(t *testing.T) {
	path := serve(t, Options{Table: &fakeTable{}})
	put := func(body string) string {
		return fmt.Sprintf("PUT /v1/forwards/web HTTP/1.1\r\nHost: fairlead\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	}
	for _, tt := range []struct {
		name, request string
		status        int
		code, says    string
	}{
		{"host of a page", "GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n", 403, CodeForbidden, "Host"},
		{"origin of a page", "GET /v1/status HTTP/1.1\r\nHost: fairlead\r\nOrigin: http://a.example\r\n\r\n", 403, CodeForbidden, "browsers"},
		{"null origin", "POST /v1/down HTTP/1.1\r\nHost: fairlead\r\nOrigin: null\r\n\r\n", 403, CodeForbidden, "browsers"},
		{"fetch metadata", "GET /v1/status HTTP/1.1\r\nHost: fairlead\r\nSec-Fetch-Site: none\r\n\r\n", 403, CodeForbidden, "browsers"},
		{"no such thing", "GET /v2/status HTTP/1.1\r\nHost: fairlead\r\n\r\n", 404, CodeNotFound, "GET /v2/status"},
		{"wrong method", "POST /v1/status HTTP/1.1\r\nHost: fairlead\r\n\r\n", 404, CodeNotFound, "POST /v1/status"},
		{"no such forward", "GET /v1/status?name=nope HTTP/1.1\r\nHost: fairlead\r\n\r\n", 404, CodeNotFound, `"nope"`},
		{"not JSON", put("listen = 80"), 400, CodeInvalid, "body"},
		{"unknown key", put(`{"listen":"80","to":"192.0.2.1","tp":1}`), 400, CodeInvalid, "tp"},
		{"two values", put(`{"listen":"80","to":"192.0.2.1"}{}`), 400, CodeInvalid, "more than one"},
		{"bad value", put(`{"listen":"99999","to":"192.0.2.1"}`), 422, CodeInvalid, "99999"},
		{"too large", put(`{"listen":"` + strings.Repeat("8", maxBody) + `"}`), 413, CodeTooLarge, "larger"},
		{"remove nothing", "DELETE /v1/forwards/web HTTP/1.1\r\nHost: fairlead\r\n\r\n", 404, CodeNotFound, "web"},
		{"kill nothing", "DELETE /v1/sessions/r9 HTTP/1.1\r\nHost: fairlead\r\n\r\n", 404, CodeNotFound, "r9"},
		{"wake nobody", "POST /v1/forwards/web/wake HTTP/1.1\r\nHost: fairlead\r\nContent-Length: 0\r\n\r\n", 404, CodeNotFound, "web"},
		{"confirm nothing", "POST /v1/confirm HTTP/1.1\r\nHost: fairlead\r\n\r\n", 409, CodeConflict, "no apply waits"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, text := raw(t, path, tt.request)
			var body errorBody
			if err := json.Unmarshal([]byte(text), &body); err != nil || body.Error == nil {
				t.Fatalf("the answer is no error: %q", text)
			}
			if resp.StatusCode != tt.status || body.Error.Code != tt.code || !strings.Contains(body.Error.Message, tt.says) {
				t.Errorf("got %d %+v, want %d %s with %q", resp.StatusCode, body.Error, tt.status, tt.code, tt.says)
			}
		})
	}
	resp, _ := raw(t, path, "GET /v1/status HTTP/1.1\r\nHost: fairlead\r\nX: "+strings.Repeat("x", 2*maxHeader)+"\r\n\r\n")
	if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of %d bytes: %s", 2*maxHeader, resp.Status)
	}
}

// A mistake in a file comes back with its place, through the wire.
func TestApplyErrors(t *testing.T) {
	c := NewClient(serve(t, Options{Table: &fakeTable{}}))
	defer c.Close()
	_, err := c.Apply(t.Context(), ApplyRequest{File: "my.toml", Text: "[forward.web]\nlisten = \"0\"\nto = \"192.0.2.1\"\n[forward.b]\nlisten = \"80\"\nto = \"\"\n"})
	var problems config.Errors
	if !errors.As(err, &problems) || len(problems) != 2 {
		t.Fatalf("want two problems, got %v", err)
	}
	if p := problems[0]; p.File != "my.toml" || p.Line != 2 || p.Column == 0 || p.Forward != "web" {
		t.Errorf("the place is lost: %+v", p)
	}
}

func TestClientRoundTrip(t *testing.T) {
	tab := &fakeTable{}
	c := NewClient(serve(t, Options{Table: tab, Version: Version{Version: "v1", PID: 7, File: "/f"}}))
	defer c.Close()
	ctx := t.Context()
	if v, err := c.Version(ctx); err != nil || v != (Version{Version: "v1", PID: 7, File: "/f"}) {
		t.Errorf("Version: %+v, %v", v, err)
	}
	f, err := c.Put(ctx, "web", config.Spec{Listen: "80", To: config.Strings{"192.0.2.1:8080"}, From: config.Strings{"198.51.100.7"}})
	if err != nil || f.Name != "web" || f.Origin != "api" || f.State != "up" {
		t.Errorf("Put: %+v, %v", f, err)
	}
	a, err := c.Apply(ctx, ApplyRequest{File: "f", Text: "[forward.a]\nlisten = \"81\"\nto = \"192.0.2.1\"\n"})
	if err != nil || len(a.Added) != 1 || a.Kept != 0 || a.Until != nil || a.Removed == nil {
		t.Errorf("Apply: %+v, %v", a, err)
	}
	if list, err := c.Status(ctx, "web"); err != nil || len(list) != 1 || list[0].Name != "web" {
		t.Errorf("Status: %+v, %v", list, err)
	}
	if err := c.Delete(ctx, "web"); err != nil {
		t.Errorf("Delete: %v", err)
	}
	if got := tab.names(); got != "a=192.0.2.1" {
		t.Errorf("the table holds %q", got)
	}
}

// Nobody is left waiting and nothing is lost when one asks for 60,000 forwards.
// Only a forward that says whom to wake reaches the sender, and the answer has what it sent.
func TestWake(t *testing.T) {
	tab := &fakeTable{}
	tab.set(mustForward(t, "web", "80", "192.0.2.1"))
	sleepy := *mustForward(t, "nas", "445", "192.0.2.2")
	sleepy.Wake.MACs = []forward.MAC{{2, 0, 0, 0, 0, 1}}
	tab.set(&sleepy)
	broken := sleepy
	broken.Name = "broken"
	tab.set(&broken)
	sent := []Woken{{MAC: "02:00:00:00:00:01", Addresses: []string{"192.0.2.2"}, Packets: []MagicPacket{
		{Interface: "eth0", To: "255.255.255.255:9"}, {To: "192.0.2.2:7", Error: "network is unreachable"},
	}}}
	c := NewClient(serve(t, Options{Table: tab, Wake: func(_ context.Context, f *forward.Forward) ([]Woken, error) {
		if f.Name == "nas" {
			return sent, nil
		}
		return nil, errors.New("no interface")
	}}))
	defer c.Close()
	if got, err := c.Wake(t.Context(), "nas"); err != nil || !reflect.DeepEqual(got, sent) {
		t.Errorf("got %+v, %v", got, err)
	}
	for name, code := range map[string]string{"web": CodeInvalid, "nope": CodeNotFound, "broken": CodeFailed} {
		_, err := c.Wake(t.Context(), name)
		if refused := new(Error); !errors.As(err, &refused) || refused.Code != code {
			t.Errorf("%s: %v, want %s", name, err, code)
		}
	}
}

func TestStatusLarge(t *testing.T) {
	const n = 60000
	tab := &fakeTable{all: make(map[string]table.Status, n)}
	for i := range n {
		tab.set(mustForward(t, fmt.Sprintf("f%05d", i), "80", "192.0.2.1:8080"))
	}
	c := NewClient(serve(t, Options{Table: tab}))
	defer c.Close()
	list, err := c.Status(t.Context())
	if err != nil || len(list) != n || list[n-1].Name != "f59999" {
		t.Fatalf("%d forwards, %v", len(list), err)
	}
}

// When down is answered, everything is gone; then the server ends by itself.
func TestDown(t *testing.T) {
	path := socketPath(t)
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	fail := errors.New("nft says no")
	ended := startServer(t, Options{Table: &fakeTable{}, Down: func(context.Context) error { return fail }}, ln)
	c := NewClient(path)
	defer c.Close()
	if err := c.Down(t.Context()); err == nil || err.Error() != "nft says no" {
		t.Errorf("a failure becomes %v", err)
	}
	fail = nil
	if err := c.Down(t.Context()); err != nil {
		t.Error(err)
	}
	select {
	case err := <-ended:
		ended <- err
	case <-time.After(10 * time.Second):
		t.Error("the server goes on")
	}
	if err := c.Confirm(t.Context()); !errors.As(err, new(*UnreachableError)) {
		t.Errorf("a daemon that is gone: %v", err)
	}
}
