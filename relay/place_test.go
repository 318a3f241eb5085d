package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestListenErrorText(t *testing.T) {
	http := place{node: forward.Host, network: forward.TCP, port: 80}
	dns := place{node: forward.Host, network: forward.UDP, addr: netip.MustParseAddr("2001:db8::1"), port: 53, iface: "eth0"}
	high := place{node: "bastion", network: forward.TCP, port: 8080}
	unix := place{node: forward.Host, path: "/run/web.sock"}
	call := func(err error) error {
		return &net.OpError{Op: "listen", Net: "tcp", Err: os.NewSyscallError("bind", err)}
	}
	for _, c := range []struct {
		p    place
		err  error
		want string
	}{
		{http, call(syscall.EADDRINUSE), "tcp/80 is in use by another program"},
		{http, call(syscall.EACCES), "tcp/80 is closed to this user: ports below 1024 need root or CAP_NET_BIND_SERVICE"},
		{high, call(syscall.EACCES), "tcp/8080 at bastion: permission denied"},
		{unix, call(syscall.EACCES), "unix:/run/web.sock: permission denied"},
		{dns, call(syscall.EADDRNOTAVAIL), "udp/[2001:db8::1]:53 on eth0: the address is not one of this host"},
		{high, errors.New("the node is away"), "tcp/8080 at bastion: the node is away"},
	} {
		if got := (&ListenError{Place: c.p.String(), Port: c.p.port, Err: c.err}).Error(); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

func TestDialErrorText(t *testing.T) {
	for _, c := range []struct {
		err  error
		want string
	}{
		{&net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, "connection refused"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: "db.internal"}}, "no such host"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: context.DeadlineExceeded}, "no answer"},
		{errors.New("the channel was refused"), "the channel was refused"},
	} {
		if got, want := (&DialError{Target: "db:1", Err: c.err}).Error(), "target db:1: "+c.want; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
