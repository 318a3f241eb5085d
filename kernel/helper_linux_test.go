package kernel_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/internal/netlab"
	"github.com/fairlead-net/fairlead/kernel"
)

// TestHelpers has each helper attached to the sessions of its forward, and to no others.
func TestHelpers(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	lab.Host.Echo(t, "[::]:8081")
	c := newCarrier(t, lab.Host)
	c.apply(fwds(t,
		"ftp 2021 192.168.1.10:8080 helper=ftp", "ftp6 [::]:2022 [fd00:1::10]:8080 helper=ftp", "here 2023 :8081 helper=ftp",
		"sip tcp+udp/5060 192.168.1.10:8080 helper=sip", "tftp udp/69 192.168.1.10:8080 helper=tftp", "irc 6667 192.168.1.10:8080 helper=irc",
		"pptp 1723 192.168.1.10:8080 helper=pptp", "ras udp/1719 192.168.1.10:8080 helper=h323", "q931 1720 192.168.1.10:8080 helper=h323",
		"amanda udp/10080 192.168.1.10:8080 helper=amanda",
		"plain 21 192.168.1.10:8080", "plain-udp udp/70 192.168.1.10:8080",
		"broad 3000-3009 192.168.1.10:8080 helper=ftp", "narrow 3005 192.168.1.10:8080", "narrower 3000-3009 192.168.1.10:8080 from=203.0.113.20/32"))
	for _, one := range []struct {
		by       *netlab.Node
		from, to string
		helper   string
	}{
		{lab.Client, "", "tcp/203.0.113.1:2021", "ftp"}, {lab.Client, "", "tcp/[2001:db8:1::1]:2022", "ftp"},
		{lab.Client, "", "tcp/203.0.113.1:2023", "ftp"}, {lab.Host, "", "tcp/203.0.113.1:2021", "ftp"},
		{lab.Client, "", "tcp/203.0.113.1:5060", "sip"}, {lab.Client, "", "udp/203.0.113.1:5060", "sip"},
		{lab.Client, "", "udp/203.0.113.1:69", "tftp"}, {lab.Client, "", "tcp/203.0.113.1:6667", "irc"},
		{lab.Client, "", "tcp/203.0.113.1:1723", "pptp"}, {lab.Client, "", "udp/203.0.113.1:1719", "RAS"},
		{lab.Client, "", "tcp/203.0.113.1:1720", "Q.931"}, {lab.Client, "", "udp/203.0.113.1:10080", "amanda"},
		{lab.Client, "", "tcp/203.0.113.1:21", ""}, {lab.Client, "", "udp/203.0.113.1:70", ""},
		{lab.Client, netlab.Client4, "tcp/203.0.113.1:3004", "ftp"}, {lab.Client, netlab.Client4, "tcp/203.0.113.1:3005", ""},
		{lab.Client, netlab.Client4b, "tcp/203.0.113.1:3004", ""},
	} {
		lab.Host.Run(t, "conntrack", "-F")
		network, addr, _ := strings.Cut(one.to, "/")
		conn, err := one.by.DialFrom(t.Context(), network, one.from, addr)
		if err == nil {
			_, err = conn.Write([]byte("?")) // what helpers make of it does not matter
		}
		if err != nil {
			t.Errorf("%s: %v", one.to, err)
			continue
		}
		port := " dport=" + addr[strings.LastIndexByte(addr, ':')+1:] + " "
		family := "ipv4"
		if strings.HasPrefix(addr, "[") {
			family = "ipv6"
		}
		entry := ""
		waitFor(t, func() bool {
			for line := range strings.Lines(lab.Host.Run(t, "conntrack", "-L", "-f", family)) {
				if strings.Contains(line, port) {
					entry = line
				}
			}
			return entry != ""
		})
		_ = conn.Close()
		if has := strings.Contains(entry, "helper="+one.helper); one.helper != "" && !has || one.helper == "" && strings.Contains(entry, "helper=") {
			t.Errorf("%s from %s%s: expected helper %q in %s", one.to, one.by, one.from, one.helper, entry)
		}
	}
	c.apply(fwds(t, "ftp 2021 192.168.1.10:8080"))
	if list := lab.Host.Run(t, "nft", "list", "ruleset"); strings.Contains(list, "ct helper") {
		t.Errorf("helpers are left when no forward has one:\n%s", list)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}

// TestHelperMissing has one forward whose helper this kernel does not have. The others run.
func TestHelperMissing(t *testing.T) {
	lab := netlab.Gateway(t)
	lab.Server.Echo(t, "[::]:8080")
	c := newCarrier(t, lab.Host)
	want := fwds(t, "a 80 192.168.1.10:8080", "b 81 192.168.1.10:8080", "c 82 192.168.1.10:8080 helper=ftp", "d 83 192.168.1.10:8080")
	for _, i := range []int{1, 3} {
		f := *want[i]
		f.Helper = forward.HelperAmanda // which is for udp
		want[i] = &f
	}
	_ = lab.Host.Do(func() error {
		var missing *kernel.HelperError
		bad := c.Apply(context.Background(), forward.ListOf(want...))
		if len(bad) != 2 || !errors.As(bad["b"], &missing) || !errors.Is(bad["d"], unix.ENOENT) {
			t.Errorf("got %v", bad)
		} else if text := missing.Error(); !strings.Contains(text, "amanda over tcp") || !strings.Contains(text, "nf_conntrack_amanda") {
			t.Errorf("the error says %q", text)
		}
		return nil
	})
	visit{by: lab.Client, to: "tcp/203.0.113.1:80", node: "server"}.check(t)
	visit{by: lab.Client, to: "tcp/203.0.113.1:82", node: "server"}.check(t)
}

// TestHelperData follows data connections, passive and active: they are translated, shown and ended with their session.
func TestHelperData(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, active := range []bool{false, true} {
			t.Run(fmt.Sprintf("v6=%v,active=%v", v6, active), func(t *testing.T) {
				lab := netlab.Gateway(t)
				front, server, client := netlab.RouterWAN4, netlab.Server4, netlab.Client4
				specs := []string{"ftp 0.0.0.0:2021 192.168.1.10:21 helper=ftp", "other 0.0.0.0:80 192.168.1.10"}
				if v6 {
					front, server, client = netlab.RouterWAN6, netlab.Server6, netlab.Client6
					specs = []string{"ftp [::]:2021 [fd00:1::10]:21 helper=ftp", "other [::]:80 [fd00:1::10]"}
				}
				want := fwds(t, specs...)
				c := newCarrier(t, lab.Host)
				c.apply(want)
				ftp := ftpServer(t, lab.Server, server)
				control, err := lab.Client.DialFrom(t.Context(), "tcp", client, net.JoinHostPort(front, "2021"))
				if err != nil {
					t.Fatal(err)
				}
				defer control.Close()
				r := bufio.NewReader(control)
				_, _ = r.ReadString('\n')
				_, _ = io.WriteString(control, "NOOP\r\n")
				_, _ = r.ReadString('\n')
				var data net.Conn
				if active {
					data = activeData(t, lab.Client, control, client, front)
				} else {
					data = passiveData(t, lab.Client, control, client, front)
				}
				defer data.Close()
				line, _ := bufio.NewReader(data).ReadString('\n')
				if line != "data\n" {
					t.Errorf("the data are %q", line)
				}
				list := c.sessions()
				if len(list) != 2 || list[0].Forward != "ftp" || list[1].Forward != "ftp" {
					t.Errorf("sessions: %+v", list)
				}
				if s := c.stats()["ftp"]; s.Open != 1 || s.Total != 1 {
					t.Errorf("stats: %+v", s)
				}
				c.apply(want[:1]) // a change of another forward leaves them alone
				if n := len(c.sessions()); n != 2 {
					t.Errorf("%d sessions are left", n)
				}
				if active {
					c.apply(fwds(t, "other 80 192.168.1.10"))
				} else {
					for _, s := range list {
						if strings.HasSuffix(s.Target, ":21") {
							_ = lab.Host.Do(func() error { err = c.Kill(s.ID); return err })
						}
					}
				}
				if err != nil {
					t.Error(err)
				}
				for left := range strings.Lines(lab.Host.Run(t, "conntrack", "-L", "-p", "tcp")) {
					// What a server says after its session has ended, an acknowledgement at the least, is another one to the kernel
					// (nf_conntrack_tcp_loose), which nobody answers.
					if strings.Contains(left, "ESTABLISHED") && !strings.Contains(left, "[UNREPLIED]") {
						t.Errorf("left: %s", left)
					}
				}
				ftp()
			})
		}
	}
}

func (c carrier) sessions() (list []forward.Session) {
	_ = c.host.Do(func() (err error) { list, err = c.Sessions(); return err })
	return list
}

// ftpServer speaks as much FTP as it takes for one data connection. The returned function waits for its end.
func ftpServer(t *testing.T, n *netlab.Node, addr string) (wait func()) {
	t.Helper()
	ln, err := n.Listen("tcp", net.JoinHostPort(addr, "21"))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	var control, data net.Conn
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		defer close(ended)
		if control, err = ln.Accept(); err != nil {
			return
		}
		_, _ = io.WriteString(control, "220 hello\r\n") // the kernel's helper reads nothing in the first line of a direction
		r := bufio.NewReader(control)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			var opened net.Listener
			verb, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
			switch verb {
			case "NOOP":
				_, _ = io.WriteString(control, "200 well\r\n")
			case "PASV", "EPSV":
				if opened, err = n.Listen("tcp", net.JoinHostPort(addr, "0")); err != nil {
					return
				}
				at := netip.MustParseAddrPort(opened.Addr().String())
				if verb == "PASV" {
					b := at.Addr().As4()
					fmt.Fprintf(control, "227 Entering Passive Mode (%d,%d,%d,%d,%d,%d)\r\n", b[0], b[1], b[2], b[3], at.Port()>>8, at.Port()&255)
				} else {
					fmt.Fprintf(control, "229 Entering Extended Passive Mode (|||%d|)\r\n", at.Port())
				}
				data, _ = opened.Accept()
				_ = opened.Close()
			case "PORT":
				var h [6]int
				_, _ = fmt.Sscanf(rest, "%d,%d,%d,%d,%d,%d", &h[0], &h[1], &h[2], &h[3], &h[4], &h[5])
				data, _ = n.Dial(context.Background(), "tcp", fmt.Sprintf("%d.%d.%d.%d:%d", h[0], h[1], h[2], h[3], h[4]<<8|h[5]))
			case "EPRT":
				words := strings.Split(rest, "|")
				data, _ = n.Dial(context.Background(), "tcp", net.JoinHostPort(words[2], words[3]))
			}
			if data != nil {
				_, _ = io.WriteString(data, "data\n")
			}
		}
	}()
	return func() {
		_ = ln.Close()
		if control != nil {
			_ = control.Close()
		}
		<-ended
		if data != nil {
			_ = data.Close()
		}
	}
}

func passiveData(t *testing.T, n *netlab.Node, control net.Conn, from, front string) net.Conn {
	t.Helper()
	verb := "PASV\r\n"
	if strings.Contains(front, ":") {
		verb = "EPSV\r\n"
	}
	_, _ = io.WriteString(control, verb)
	line, _ := bufio.NewReader(control).ReadString('\n')
	port := 0
	if verb == "EPSV\r\n" {
		_, _ = fmt.Sscanf(line, "229 Entering Extended Passive Mode (|||%d|)", &port)
	} else {
		var h [6]int
		_, _ = fmt.Sscanf(line, "227 Entering Passive Mode (%d,%d,%d,%d,%d,%d)", &h[0], &h[1], &h[2], &h[3], &h[4], &h[5])
		if at := fmt.Sprintf("%d.%d.%d.%d", h[0], h[1], h[2], h[3]); at != front {
			t.Errorf("the client is told %s", at)
		}
		port = h[4]<<8 | h[5]
	}
	data, err := n.DialFrom(t.Context(), "tcp", from, net.JoinHostPort(front, fmt.Sprint(port)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func activeData(t *testing.T, n *netlab.Node, control net.Conn, from, front string) net.Conn {
	t.Helper()
	ln, err := n.Listen("tcp", net.JoinHostPort(from, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	at := netip.MustParseAddrPort(ln.Addr().String())
	if at.Addr().Is4() {
		b := at.Addr().As4()
		fmt.Fprintf(control, "PORT %d,%d,%d,%d,%d,%d\r\n", b[0], b[1], b[2], b[3], at.Port()>>8, at.Port()&255)
	} else {
		fmt.Fprintf(control, "EPRT |2|%s|%d|\r\n", at.Addr(), at.Port())
	}
	_ = ln.(*net.TCPListener).SetDeadline(time.Now().Add(20 * time.Second))
	data, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if seen := data.RemoteAddr().(*net.TCPAddr).IP.String(); seen != front {
		t.Errorf("the data connection comes from %s", seen)
	}
	return data
}
