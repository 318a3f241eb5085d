package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-net/fairlead/internal/netlab"
)

// An asker is a host behind somebody else's gateway, and beyond that perhaps a further one. Addresses outside are such as the
// internet has: what is reserved would be taken for what it is. The namespaces reach nothing.
type asker struct {
	*netlab.Lab
	host, gateway, outer, outside *netlab.Node // outer is nil where there is one gateway
}

const (
	homeNet  = "192.168.1."
	homeV6   = "2a01:4f8:1:2::"
	outerNet = "10.7.7."
	wideNet  = "198.41.0." // of the real internet, as no other addresses are public
)

func newAsker(t *testing.T, double bool) *asker {
	t.Helper()
	needs(t, "miniupnpd", "nft")
	l := netlab.New(t)
	a := &asker{Lab: l, host: l.Node("host"), gateway: l.Node("gateway"), outside: l.Node("outside")}
	a.gateway.Forwarding(t)
	l.Link(netlab.End{Node: a.host, Interface: "eth0", Addrs: []string{homeNet + "10/24", homeV6 + "10/64"}},
		netlab.End{Node: a.gateway, Interface: "lan", Addrs: []string{homeNet + "1/24", homeV6 + "1/64"}})
	a.host.Route(t, "default", homeNet+"1")
	a.host.Route(t, "default", homeV6+"1")
	beyond := a.gateway
	if double {
		a.outer = l.Node("outer")
		a.outer.Forwarding(t)
		l.Link(netlab.End{Node: a.gateway, Interface: "wan", Addrs: []string{outerNet + "2/24"}},
			netlab.End{Node: a.outer, Interface: "lan", Addrs: []string{outerNet + "1/24"}})
		a.gateway.Route(t, "default", outerNet+"1")
		beyond = a.outer
	}
	l.Link(netlab.End{Node: beyond, Interface: "wan", Addrs: []string{wideNet + "4/24", "2a01:4f8:9::1/64"}},
		netlab.End{Node: a.outside, Interface: "eth0", Addrs: []string{wideNet + "9/24", "2a01:4f8:9::9/64"}})
	beyond.Route(t, "default", wideNet+"9")
	a.outside.Route(t, homeV6+"/64", "2a01:4f8:9::1")
	return a
}

// A daemonUPnP is a miniupnpd on a gateway.
type daemonUPnP struct {
	t     *testing.T
	node  *netlab.Node
	conf  string
	lines []string
	proc  *netlab.Process
}

// miniupnpd has a node be a gateway that grants. more are lines of its file.
func miniupnpd(t *testing.T, node *netlab.Node, more ...string) *daemonUPnP {
	t.Helper()
	node.Nft(t, `table inet filter {
	chain forward { type filter hook forward priority 0; policy drop; ct state established,related accept; iifname "lan" accept; jump miniupnpd; }
	chain miniupnpd { }
	chain prerouting { type nat hook prerouting priority -100; jump prerouting_miniupnpd; }
	chain prerouting_miniupnpd { }
	chain postrouting { type nat hook postrouting priority 100; jump postrouting_miniupnpd; meta nfproto ipv4 oifname "wan" masquerade; }
	chain postrouting_miniupnpd { }
}`)
	conf := filepath.Join(t.TempDir(), "miniupnpd.conf")
	lines := append([]string{
		"ext_ifname=wan", "ext_ifname6=wan", "listening_ip=lan", "port=0", "system_uptime=no", "notify_interval=900",
		"upnp_table_name=filter", "upnp_nat_table_name=filter", "upnp_forward_chain=miniupnpd", "upnp_nat_chain=prerouting_miniupnpd",
		"upnp_nat_postrouting_chain=postrouting_miniupnpd", "uuid=5d9ae8c4-7fa1-4a5c-9a53-2b6a5ba2d6d1",
	}, more...)
	if !slices.Contains(more, "secure_mode=no") {
		lines = append(lines, "secure_mode=yes")
	}
	lines = append(lines, "allow 1024-65535 0.0.0.0/0 1-65535", "deny 0-65535 0.0.0.0/0 0-65535") // the first that fits counts
	if err := os.WriteFile(conf, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	d := &daemonUPnP{t: t, node: node, conf: conf, lines: lines}
	d.start()
	return d
}

func (d *daemonUPnP) start() {
	d.t.Helper()
	d.proc = d.node.Start(d.t, "miniupnpd", "-d", "-f", d.conf, "-P", filepath.Join(d.t.TempDir(), "pid"))
	port, no := 5351, "enable_natpmp=no"
	if slices.Contains(d.lines, no) {
		port = 1900
	}
	d.node.WaitListen(d.t, "udp", port)
}

// restart ends it in some way and starts it anew; what it had mapped is gone.
func (d *daemonUPnP) restart(end func()) {
	d.t.Helper()
	end()
	for _, chain := range []string{"miniupnpd", "prerouting_miniupnpd", "postrouting_miniupnpd"} {
		d.node.Run(d.t, "nft", "flush", "chain", "inet", "filter", chain)
	}
	d.start()
}

// description is where its description is.
func (d *daemonUPnP) description() string {
	d.t.Helper()
	port := strings.Fields(d.proc.WaitOutput(d.t, `HTTP listening on port \d+`))[4]
	return "http://" + homeNet + "1:" + port + "/rootDesc.xml"
}

// A publishedStatus is a line of `fairlead open --json`.
type publishedStatus struct {
	State, Protocol, Kind, Problem, Hint string
	Endpoint, Gateway                    []string
	Verified                             bool
	Expires                              *time.Time
}

// An opener is `fairlead open` on the host.
type opener struct {
	t    *testing.T
	proc *netlab.Process
}

func (a *asker) open(t *testing.T, args ...string) *opener {
	t.Helper()
	return &opener{t, asNobody(t, a.host, append([]string{"open", "--json", "--log-level", "debug"}, args...)...)}
}

// states is all that it has printed.
func (o *opener) states() (list []publishedStatus) {
	for line := range strings.Lines(o.proc.Output()) {
		var s publishedStatus
		if strings.HasPrefix(line, "{") && json.Unmarshal([]byte(line), &s) == nil {
			list = append(list, s)
		}
	}
	return list
}

// now waits until the last state is as ok says.
func (o *opener) now(what string, ok func(publishedStatus) bool) (last publishedStatus) {
	o.t.Helper()
	for deadline := time.Now().Add(40 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if list := o.states(); len(list) > 0 {
			if last = list[len(list)-1]; ok(last) {
				return last
			}
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("waited in vain until %s; it is %+v", what, last)
		}
	}
}

// stop is Ctrl-C.
func (o *opener) stop() {
	o.t.Helper()
	o.proc.Signal(os.Interrupt)
	if err := o.proc.Wait(o.t.Context()); err != nil {
		o.t.Errorf("it ended with %v", err)
	}
}

// reaches reports whether outside gets a connection.
func (a *asker) reaches(t *testing.T, at string) bool {
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	conn, err := a.outside.Dial(ctx, "tcp", at)
	if err == nil {
		conn.Close()
	}
	return err == nil
}

func (a *asker) listen(t *testing.T, port int) {
	t.Helper()
	for _, addr := range []string{"0.0.0.0", "[::]"} {
		network := "tcp4"
		if addr == "[::]" {
			network = "tcp6"
		}
		ln, err := a.host.Listen(network, fmt.Sprintf("%s:%d", addr, port))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { ln.Close() })
		go func() {
			for {
				c, err := ln.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
	}
}

func has(s publishedStatus, endpoint string) bool { return slices.Contains(s.Endpoint, endpoint) }
