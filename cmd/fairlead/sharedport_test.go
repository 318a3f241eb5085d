package main

import (
	"net"
	"testing"

	"github.com/fairlead-net/fairlead/config"
	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node/host"
	"github.com/fairlead-net/fairlead/tunnel/link"
)

// TestDoors: the hub's port is listened at by way of the hub, every other one is not, and visitors go where their name does.
func TestDoors(t *testing.T) {
	blog := &forward.Forward{Name: "blog", Listen: listenAt(t, "443"), Hosts: []string{"blog.example.com", "*.cloud.example.com"}}
	d := &doors{list: func() []*forward.Forward { return []*forward.Forward{blog} }}
	here := &sharedHost{host.New(), d}
	hub, err := config.NewHub("443", "")
	if err != nil {
		t.Fatal(err)
	}
	if d.open(":443") != nil {
		t.Error("there is no hub, and a door")
	}
	d.settle(hub)
	ln, err := here.Listen(t.Context(), "tcp", ":443")
	if err != nil || ln.Addr().String() != "[::]:443" {
		t.Fatal(err)
	}
	for _, other := range []string{":80", "127.0.0.1:80", "x:443", ":x"} {
		if d.open(other) != nil {
			t.Errorf("%s is the hub's", other)
		}
	}
	for name, leads := range map[string]bool{
		"blog.example.com": true, "a.cloud.example.com": true, "cloud.example.com": false, "a.b.cloud.example.com": false, "hub.example.com": false, "": false,
	} {
		a, b := net.Pipe()
		v := &link.Visitor{Conn: local{a}}
		if got := d.visit(v, link.First{TLS: true, ServerName: name}); got != leads {
			t.Errorf("%q leads to a forward: %t", name, got)
		}
		if leads {
			if c, err := ln.Accept(); err != nil || c != v {
				t.Errorf("%v, %v", c, err)
			}
		}
		a.Close()
		b.Close()
	}
	a, b := net.Pipe()
	defer b.Close()
	defer a.Close()
	v := &link.Visitor{Conn: local{a}}
	if d.visit(v, link.First{ServerName: "blog.example.com", Path: link.WellKnown}) {
		t.Error("an agent is a forward's")
	}
	if !d.visit(v, link.First{ServerName: "blog.example.com", Path: "/"}) {
		t.Error("HTTP without TLS is not the forward's whose name is called")
	}
	if _, err := ln.Accept(); err != nil {
		t.Error(err)
	}
	// Who wants the port of every address where the hub has that of one means the hub's; without a name nobody gets it.
	one, _ := config.NewHub("192.0.2.1:443", "")
	alone := &doors{}
	alone.settle(one)
	if at := alone.own(listenAt(t, "443")); at.Addr != one.Listen.Addr || !alone.has(at) || alone.own(listenAt(t, "80")).Addr.IsValid() {
		t.Errorf("%s", at)
	}
	// Another port of the hub: who listened at the old one opens it again, by himself.
	hub2, _ := config.NewHub("8443", "")
	d.settle(hub2)
	if _, err := ln.Accept(); err == nil {
		t.Error("the door is open")
	}
	if d.open(":443") != nil || d.open(":8443") == nil {
		t.Error("the doors are where they were")
	}
	onlyQUIC := *hub
	onlyQUIC.Transports = []string{link.QUIC}
	if d.settle(&onlyQUIC); d.open(":443") != nil {
		t.Error("a hub that has no TCP has a door")
	}
}

// local is a connection with a local address of TCP.
type local struct{ net.Conn }

func (local) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 443} }
