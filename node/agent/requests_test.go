package agent

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestListenRequest(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"id":1,"network":"tcp","port":80}`, "tcp/80"},
		{`{"id":1,"network":"udp","port":53,"address":"127.0.0.1"}`, "udp/127.0.0.1:53"},
		{`{"id":1,"network":"tcp4","port":80}`, "tcp/0.0.0.0:80"},
		{`{"id":1,"network":"udp6","port":80}`, "udp/[::]:80"},
		{`{"id":1,"network":"tcp","port":80,"address":"localhost","later":true}`, "tcp/127.0.0.1:80"},
		{`{"id":1,"network":"tcp","address":"::ffff:192.0.2.1","port":80}`, "tcp/192.0.2.1:80"},
		{`{"id":0,"network":"tcp","port":80}`, "error: no id"},
		{`{"id":1,"network":"tcp46","port":80}`, "error: no network"},
		{`{"id":1,"network":"unix","address":"/x"}`, "error: no network"},
		{`{"id":1,"network":"tcp4","address":"::1"}`, "error: no address for tcp4"},
		{`{"id":1,"network":"tcp","address":"fe80::1%eth0"}`, "error: not an address"},
		{`{"id":1,"network":"tcp","address":"example.com"}`, "error: no IP address"},
		{`{"id":1,"network":"tcp","port":65536}`, "error: cannot unmarshal"},
		{`{"id":1,"network":"tcp","port":-1}`, "error: cannot unmarshal"},
		{``, "error: unexpected end"},
		{strings.Repeat(" ", maxRequest+1), "error: bytes long"},
	} {
		_, l, err := parseListen([]byte(c.in))
		if want, isErr := strings.CutPrefix(c.want, "error: "); isErr {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%.60q: %v; want %s", c.in, err, want)
			}
		} else if err != nil || l.String() != c.want {
			t.Errorf("%q is %v, %v; want %s", c.in, l, err, c.want)
		}
	}
}

func TestParseServe(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{"id":1,"network":"tcp","port":443,"names":["blog.example.com","*.a.example.com"]}`, "tcp/443 for blog.example.com, *.a.example.com"},
		{`{"id":1,"network":"tcp","port":443,"names":["blog.example.com"],"tls":"acme","redirect":true,"later":1}`, "tcp/443 for blog.example.com"},
		{`{"id":1,"network":"tcp","port":443}`, "error: no name"},
		{`{"id":1,"network":"tcp","names":["a.example"]}`, "error: no port"},
		{`{"id":0,"network":"tcp","port":443,"names":["a.example"]}`, "error: no id"},
		{`{"id":1,"network":"udp","port":443,"names":["a.example"]}`, "error: over tcp"},
		{`{"id":1,"network":"tcp","port":443,"names":["Blog.example"]}`, "error: lower case"},
		{`{"id":1,"network":"tcp","port":443,"names":["a.example","a.example"]}`, "error: twice"},
		{`{"id":1,"network":"tcp","port":443,"names":["*.example.com"],"tls":"acme"}`, "error: no certificate"},
		{`{"id":1,"network":"tcp","port":443,"names":["a.example"],"tls":"files"}`, "error: certificate has two files"},
		{`{"id":1,"network":"tcp","port":443,"names":["a.example"],"tls":"ssl"}`, "error: no way to treat TLS"},
	} {
		_, d, err := parseServe([]byte(c.in))
		if want, isErr := strings.CutPrefix(c.want, "error: "); isErr {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v; want %s", c.in, err, want)
			}
		} else if err != nil || d.String() != c.want {
			t.Errorf("%q is %v, %v; want %s", c.in, d, err, c.want)
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add([]byte(`{"id":1,"network":"tcp","port":443,"names":["blog.example.com"],"tls":"acme","redirect":true}`))
	f.Add([]byte(`{"id":1,"network":"tcp","address":"127.0.0.1","port":80,"prefer":81}`))
	f.Add([]byte(`{"id":1,"why":"the limits have changed"}`))
	f.Add([]byte(`{"name":"home","may":["listen at 8000-8010"]}`))
	f.Add([]byte(`{"address":"::1","port":7}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if r, l, err := parseListen(data); err == nil {
			r2, l2, err := parseListen(encode(r))
			if err != nil || r2 != r || !l2.Equal(l) {
				t.Errorf("%+v became %+v, %v", r, r2, err)
			}
			if r.ID == 0 || len(l.Ports.Ranges) != 1 || l.Path != "" {
				t.Errorf("%+v is %v", r, l)
			}
		}
		if r, d, err := parseServe(data); err == nil {
			_, again, err := parseServe(encode(r))
			if err != nil || !again.Equal(d) || d.Check() != nil || !d.Named() || d.TLS == forward.TLSFiles {
				t.Errorf("%+v is %v and %v, %v", r, d, again, err)
			}
		}
		if r, err := parseClosed(data); err == nil && (len(r.Why) > maxLine+3 || strings.ContainsAny(r.Why, "\n\x1b")) {
			t.Errorf("%q", r.Why)
		}
		if told, err := parseTold(data); err == nil {
			again, err := json.Marshal(told)
			if err != nil || len(told.Name) > 4*maxName || bytes.ContainsAny(again, "\x1b\x00") {
				t.Errorf("%+v, %v", told, err)
			}
		}
		_, _ = parseUnlisten(data)
		if addr, port, err := parseReply(data); err == nil && port == 0 {
			t.Error(addr, port)
		}
	})
}
