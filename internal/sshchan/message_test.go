package sshchan

import (
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

func TestOriginOf(t *testing.T) {
	for _, c := range []struct {
		client netip.AddrPort
		host   string
		port   uint32
	}{
		{netip.AddrPort{}, "127.0.0.1", 1},
		{netip.MustParseAddrPort("[::ffff:192.0.2.1]:99"), "192.0.2.1", 99},
		{netip.MustParseAddrPort("[fe80::1%eth0]:99"), "fe80::1", 99},
	} {
		if host, port := OriginOf(c.client); host != c.host || port != c.port {
			t.Errorf("%s: %s %d", c.client, host, port)
		}
	}
}

func FuzzPayloads(f *testing.F) {
	f.Add(ssh.Marshal(TCPChannel{"host", 80, "origin", 1}))
	f.Add(ssh.Marshal(TCPChannel{"localhost", 80, "::1", 1}))
	f.Add(ssh.Marshal(DirectUnixChannel{"/path", "", 0}))
	f.Add(ssh.Marshal(ForwardedUnixChannel{Path: "/path"}))
	f.Add(ssh.Marshal(TCPRequest{"", 0}))
	f.Add(ssh.Marshal(UnixRequest{"/path"}))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Add([]byte{0, 0, 0, 255})
	f.Fuzz(func(t *testing.T, payload []byte) {
		if p, err := ParseDirect(payload); err == nil && (p.Host == "" || len(p.Host) > MaxHost || p.Port == 0 || p.Path != "") {
			t.Errorf("direct: %+v", p)
		}
		if p, err := ParseDirectUnix(payload); err == nil && (!strings.HasPrefix(p.Path, "/") || len(p.Path) > MaxPath || p.Host != "") {
			t.Errorf("direct unix: %+v", p)
		}
		if p, err := ParseTCPRequest(payload); err == nil && (len(p.Host) > MaxHost || p.Path != "" || strings.ContainsAny(p.Host, "/\x00 \n")) {
			t.Errorf("request: %+v", p)
		}
		if p, err := ParseUnixRequest(payload); err == nil && (!strings.HasPrefix(p.Path, "/") || strings.ContainsRune(p.Path, 0)) {
			t.Errorf("unix request: %+v", p)
		}
		if a, err := ParseForwarded(payload); err == nil && (a.At.Port == 0 || a.At.Path != "") {
			t.Errorf("forwarded: %+v", a)
		}
		if a, err := ParseForwardedUnix(payload); err == nil && (a.At.Path == "" || a.At.Host != "" || a.Origin != "") {
			t.Errorf("forwarded unix: %+v", a)
		}
	})
}
