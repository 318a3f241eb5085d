package igd

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/portmap/ssdp"
	"github.com/fairlead-net/fairlead/portmap/upnp"
)

// ask sends a search from a host, and returns as many answers as are wanted, or what answers until it has been quiet for the time.
func ask(t testing.TB, n *netlab.Node, own, to, target string, want int, quiet time.Duration) (answers []ssdp.Message) {
	t.Helper()
	c, err := n.ListenPacket("udp", own)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	m := ssdp.Message{Kind: ssdp.Search, Host: to, Target: target, MX: 1}
	at, err := netip.ParseAddrPort(to)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.WriteTo(m.Append(nil), net.UDPAddrFromAddrPort(at)); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 4096)
	for len(answers) < want {
		_ = c.SetReadDeadline(time.Now().Add(quiet))
		k, _, err := c.ReadFrom(buf)
		if err != nil {
			return answers
		}
		answer, err := ssdp.Parse(buf[:k])
		if err != nil {
			t.Errorf("%v: %s", err, buf[:k])
		}
		answers = append(answers, answer)
	}
	return answers
}

// web sends a request from a host and returns the status; 0: there was no answer.
func web(n *netlab.Node, own, url, method string, header http.Header, body string) (*http.Response, string, error) {
	r, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		return nil, "", err
	}
	if header != nil {
		r.Header = header
	}
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	c, err := n.DialFrom(ctx, "tcp", own, r.URL.Host)
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if err := r.Write(c); err != nil {
		return nil, "", err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), r)
	if err != nil {
		return nil, "", err
	}
	b, err := io.ReadAll(answer.Body)
	return answer, string(b), err
}

// find is where a host finds the description.
func find(t testing.TB, n *netlab.Node, own string) string {
	t.Helper()
	for range 20 {
		if got := ask(t, n, own+":0", ssdp.Group4+":1900", ssdp.RootDevice, 1, 500*time.Millisecond); len(got) > 0 {
			return got[0].Location
		}
	}
	t.Fatal("no gateway is found")
	return ""
}

// Nobody is answered from the WAN, whatever address of the gateway it asks, and however it gets there.
func TestNothingAnswersOutside(t *testing.T) {
	t.Parallel()
	top := netlab.Gateway(t)
	startServer(t, top.Router, "1", "lan")
	at := find(t, top.Server, netlab.Server4)
	_, port, _ := strings.Cut(strings.TrimPrefix(at, "http://"), ":")
	port, _, _ = strings.Cut(port, "/")
	top.Client.Route(t, "192.168.1.0/24", netlab.RouterWAN4) // the kernel would accept the LAN's address on the WAN
	top.Client.Route(t, "fd00:1::/64", netlab.RouterWAN6)
	for _, to := range []string{ssdp.Group4 + ":1900", netlab.RouterWAN4 + ":1900", netlab.RouterLAN4 + ":1900"} {
		for _, own := range []string{netlab.Client4 + ":0"} {
			if got := ask(t, top.Client, own, to, ssdp.All, 1, 300*time.Millisecond); len(got) > 0 {
				t.Errorf("%s got %d answers from %s", own, len(got), to)
			}
		}
	}
	if got := ask(t, top.Client, "["+netlab.Client6+"]:0", "["+netlab.RouterLAN6+"]:1900", ssdp.All, 1, 300*time.Millisecond); len(got) > 0 {
		t.Errorf("%d answers over IPv6", len(got))
	}
	// A stranger with an address of the LAN.
	top.Client.Run(t, "ip", "addr", "add", "192.168.1.99/32", "dev", "eth0")
	if got := ask(t, top.Client, "192.168.1.99:0", netlab.RouterLAN4+":1900", ssdp.All, 1, 300*time.Millisecond); len(got) > 0 {
		t.Errorf("a stranger got %d answers", len(got))
	}
	for _, to := range []string{netlab.RouterWAN4, netlab.RouterLAN4} {
		if answer, _, err := web(top.Client, netlab.Client4, "http://"+to+":"+port+"/", "GET", nil, ""); err == nil {
			t.Errorf("HTTP at %s: %s", to, answer.Status)
		}
	}
	if answer, _, err := web(top.Server, netlab.Server4, at, "GET", nil, ""); err != nil || answer.StatusCode != 200 {
		t.Errorf("inside: %v, %v", answer, err)
	}
	if got := ask(t, top.Server, netlab.Server4+":0", netlab.RouterLAN4+":1900", ssdp.All, 99, 500*time.Millisecond); len(got) != 10 {
		t.Errorf("%d answers by unicast", len(got))
	}
}

// A subscriber is what events are sent to.
type subscriber struct {
	t      *testing.T
	host   *netlab.Node
	ln     net.Listener
	events chan event
}

type event struct {
	sid, seq, kind string
	vars           upnp.Args
}

func newSubscriber(t *testing.T, host *netlab.Node, addr string) *subscriber {
	t.Helper()
	ln, err := host.Listen("tcp", addr+":0")
	if err != nil {
		t.Fatal(err)
	}
	s := &subscriber{t, host, ln, make(chan event, 100)}
	srv := &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		vars, err := upnp.ParseEvent(b)
		if err != nil || r.Method != "NOTIFY" || r.Header.Get("NT") != "upnp:event" || r.Header.Get("NTS") != "upnp:propchange" {
			t.Errorf("%s %v: %v", r.Method, r.Header, err)
		}
		s.events <- event{r.Header.Get("SID"), r.Header.Get("SEQ"), r.URL.Path, vars}
	})}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	return s
}

func (s *subscriber) next() event {
	s.t.Helper()
	select {
	case e := <-s.events:
		return e
	case <-time.After(20 * time.Second):
		s.t.Fatal("no event comes")
		return event{}
	}
}

// subscribe sends SUBSCRIBE or UNSUBSCRIBE.
func (s *subscriber) subscribe(method, url string, fields ...string) *http.Response {
	s.t.Helper()
	h := http.Header{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h[name] = []string{value}
	}
	answer, _, err := web(s.host, netlab.Server4, url, method, h, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return answer
}

func TestEvents(t *testing.T) {
	t.Parallel()
	top := netlab.Gateway(t)
	server := startServer(t, top.Router, "1", "lan")
	at := strings.Replace(find(t, top.Server, netlab.Server4), "root.xml", "event/ip", 1)
	s := newSubscriber(t, top.Server, netlab.Server4)
	back := "CALLBACK: <http://" + s.ln.Addr().String() + "/here>"

	for name, fields := range map[string][]string{
		"a stranger's callback": {"NT: upnp:event", "CALLBACK: <http://192.168.1.20:80/>"},
		"a name for a callback": {"NT: upnp:event", "CALLBACK: <http://localhost:80/>"},
		"no callback":           {"NT: upnp:event"},
		"no type":               {back},
		"an unknown id":         {"SID: uuid:1"},
	} {
		if got := s.subscribe("SUBSCRIBE", at, fields...); got.StatusCode != 412 {
			t.Errorf("%s: %s", name, got.Status)
		}
	}
	answer := s.subscribe("SUBSCRIBE", at, "NT: upnp:event", "TIMEOUT: Second-300", "CALLBACK: <http://192.168.1.20:80/><http://"+s.ln.Addr().String()+"/here>")
	sid := answer.Header.Get("SID")
	if answer.StatusCode != 200 || sid == "" || answer.Header.Get("TIMEOUT") != "Second-1800" {
		t.Fatalf("%s %v", answer.Status, answer.Header)
	}
	first := s.next()
	if first.seq != "0" || first.sid != sid || first.kind != "/here" || first.vars.Of("ExternalIPAddress") != childExternal ||
		first.vars.Of("PortMappingNumberOfEntries") != "0" || first.vars.Of("ConnectionStatus") != "Connected" {
		t.Errorf("%+v", first)
	}
	server.tell("external 44.33.22.11")
	if e := s.next(); e.seq != "1" || len(e.vars) != 1 || e.vars.Of("ExternalIPAddress") != "44.33.22.11" {
		t.Errorf("%+v", e)
	}
	call := upnp.Call{Service: upnp.WANIPConnection + ":1", Action: upnp.AddPortMapping, Args: mapped{}.args()}
	soap := http.Header{"SOAPAction": {call.SOAPAction()}}
	if answer, body, err := web(top.Server, netlab.Server4, strings.Replace(at, "event", "control", 1), "POST", soap, string(call.Append(nil))); err != nil || answer.StatusCode != 200 {
		t.Fatalf("%v, %s", err, body)
	}
	if e := s.next(); e.seq != "2" || e.vars.Of("PortMappingNumberOfEntries") != "1" {
		t.Errorf("%+v", e)
	}
	if got := s.subscribe("SUBSCRIBE", at, "SID: "+sid, "TIMEOUT: Second-infinite"); got.StatusCode != 200 || got.Header.Get("SID") != sid || got.Header.Get("TIMEOUT") != "Second-86400" {
		t.Errorf("%s %v", got.Status, got.Header)
	}
	if got := s.subscribe("SUBSCRIBE", at, "SID: "+sid, back); got.StatusCode != 400 {
		t.Error(got.Status)
	}
	other := http.Header{"SID": {sid}}
	if got, _, err := web(top.Peer, netlab.Peer4, at, "UNSUBSCRIBE", other, ""); err != nil || got.StatusCode != 412 {
		t.Errorf("somebody else's: %v, %v", got, err)
	}
	if got := s.subscribe("UNSUBSCRIBE", strings.Replace(at, "/ip", "/link", 1), "SID: "+sid); got.StatusCode != 412 {
		t.Errorf("another service's: %s", got.Status)
	}
	for _, want := range []int{200, 412} {
		if got := s.subscribe("UNSUBSCRIBE", at, "SID: "+sid); got.StatusCode != want {
			t.Errorf("%s, want %d", got.Status, want)
		}
	}
	granted := 0
	for range maxClientEvents + 2 {
		if s.subscribe("SUBSCRIBE", at, "NT: upnp:event", "CALLBACK: <http://192.168.1.10:9/>").StatusCode == 200 {
			granted++
		}
	}
	if granted != maxClientEvents {
		t.Errorf("%d subscriptions of one client", granted)
	}
}

// The device says that it comes and goes, and its places do so while it runs.
func TestPlacesComeAndGo(t *testing.T) {
	t.Parallel()
	top := netlab.Gateway(t)
	l := top.Lab
	heard, err := top.Server.ListenPacket("udp", "0.0.0.0:1900")
	if err != nil {
		t.Fatal(err)
	}
	defer heard.Close()
	joinGroup(t, heard, top.Server)
	server := startServer(t, top.Router, "1", "lan lan2")
	listen := func(kind ssdp.Kind) ssdp.Message {
		t.Helper()
		buf := make([]byte, 4096)
		_ = heard.SetReadDeadline(time.Now().Add(20 * time.Second))
		for {
			k, _, err := heard.ReadFrom(buf)
			if err != nil {
				t.Fatalf("no %v is heard: %v", kind, err)
			}
			if m, err := ssdp.Parse(buf[:k]); err == nil && m.Kind == kind && m.Target == ssdp.RootDevice {
				return m
			}
		}
	}
	alive := listen(ssdp.Alive)
	if alive.MaxAge != maxAge || alive.Location != find(t, top.Server, netlab.Server4) || alive.Boot == 0 {
		t.Errorf("%+v", alive)
	}

	guest := l.Node("guest")
	l.Link(netlab.End{Node: top.Router, Interface: "lan2", Addrs: []string{"192.168.2.1/24"}}, netlab.End{Node: guest, Interface: "eth0", Addrs: []string{"192.168.2.10/24"}})
	guest.Route(t, "default", "192.168.2.1")
	server.WaitOutput(t, `UPnP is served.*interface=lan2`)
	if got := find(t, guest, "192.168.2.10"); !strings.HasPrefix(got, "http://192.168.2.1:") {
		t.Error(got)
	}
	top.Router.Run(t, "ip", "link", "del", "lan2")
	top.Router.Run(t, "ip", "addr", "add", "192.168.1.77/24", "dev", "lan")
	server.WaitOutput(t, `UPnP is served.*interface=lan .*192.168.1.77`)
	if got := listen(ssdp.ByeBye); got.USN != alive.USN {
		t.Errorf("%+v", got)
	}
	if got := find(t, top.Server, netlab.Server4); got != alive.Location {
		t.Errorf("%s, and before %s", got, alive.Location)
	}
	listen(ssdp.Alive)
	server.end()
	listen(ssdp.ByeBye)
}

func joinGroup(t *testing.T, c net.PacketConn, n *netlab.Node) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	index := 0
	if err := n.Do(func() error {
		i, err := net.InterfaceByName("eth0")
		if err == nil {
			index = i.Index
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if err := control(raw, func(fd int) error { return joined4(fd, index) }); err != nil {
		t.Fatal(err)
	}
}

// BenchmarkAddPortMapping is what one program of the LAN gets done, with a connection for each mapping and with some for all.
func BenchmarkAddPortMapping(b *testing.B) {
	top := netlab.Gateway(b)
	server := startServer(b, top.Router, "1", "lan")
	at := strings.Replace(find(b, top.Server, netlab.Server4), "root.xml", "control/ip", 1)
	for _, full := range []int{0, 20_000} {
		server.tell("fill " + decimal(full))
		for _, keep := range []bool{false, true} {
			b.Run(fmt.Sprintf("leases=%d/keepalive=%v", full, keep), func(b *testing.B) {
				client := &http.Client{Transport: &http.Transport{DisableKeepAlives: !keep, MaxIdleConnsPerHost: 16, DialContext: top.Server.Dial}}
				defer client.CloseIdleConnections()
				var next atomic.Uint32
				b.SetParallelism(4)
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						port := decimal(30_000 + next.Add(1)%10_000)
						if err := addOne(client, at, port); err != nil {
							b.Error(err)
							return
						}
					}
				})
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "mappings/s")
			})
		}
	}
}

func addOne(client *http.Client, at, port string) error {
	call := upnp.Call{
		Service: upnp.WANIPConnection + ":1", Action: upnp.AddPortMapping,
		Args: mapped{external: port, inside: port, internal: netlab.Server4}.args(),
	}
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, at, bytes.NewReader(call.Append(nil)))
	if err != nil {
		return err
	}
	r.Header["SOAPAction"] = []string{call.SOAPAction()}
	answer, err := client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", answer.Status, body)
	}
	return err
}
