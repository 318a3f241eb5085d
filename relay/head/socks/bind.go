package socks

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/fairlead-net/fairlead/relay/head"
)

// maxStrangers is how many callers BIND turns away before it gives up.
const maxStrangers = 64

// errAddressType is answered to a BIND that waits for a name: who calls has an address, and the names of addresses are not to
// be trusted.
var errAddressType = errors.New("BIND waits for an IP address, not for a name")

// bind opens a port, tells the client which, and waits for one peer. Only the host that the client named may call, and
// 0.0.0.0 or :: names them all. Its port is not compared: FTP, for which BIND was made, names the port of the control
// connection (RFC 1928, section 4), and calls from another one.
func bind(ctx context.Context, r *reader, env head.Env, q request) (head.Outcome, error) {
	wanted, err := netip.ParseAddr(q.host)
	if err != nil {
		if q.dialect == version5 {
			return head.Outcome{}, r.reject5(noAddressType5, errAddressType)
		}
		return head.Outcome{}, r.refuse(q.dialect, errAddressType)
	}
	l, err := env.Listen(ctx, q.host, q.port)
	if err != nil {
		return head.Outcome{}, r.refuse(q.dialect, err)
	}
	defer l.Close()
	if err := r.write(q.granted(head.AddrPort(l.Addr()))); err != nil {
		return head.Outcome{}, err
	}
	peer, err := await(ctx, r, l, wanted)
	if err != nil {
		return head.Outcome{}, r.refuse(q.dialect, fmt.Errorf("wait for the peer: %w", err))
	}
	if err := r.write(q.granted(head.AddrPort(peer.RemoteAddr()))); err != nil {
		peer.Close()
		return head.Outcome{}, err
	}
	return head.Outcome{Target: peer, Ahead: r.rest()}, nil
}

var errClientGone = errors.New("the client has gone")

// await accepts the first connection from an address, as long as the client is there and bindWait is not over.
func await(ctx context.Context, r *reader, l net.Listener, wanted netip.Addr) (net.Conn, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timed, stopTimer := context.WithTimeout(ctx, bindWait)
	defer stopTimer()
	defer context.AfterFunc(timed, func() { l.Close() })()
	defer r.watch(func() { cancel(errClientGone) })()
	for range maxStrangers {
		peer, err := l.Accept()
		if err != nil {
			if timed.Err() != nil {
				return nil, context.Cause(timed)
			}
			return nil, err
		}
		if wanted.IsUnspecified() || sameHost(head.AddrPort(peer.RemoteAddr()).Addr(), wanted) {
			return peer, nil
		}
		peer.Close()
	}
	return nil, errors.New("nobody but strangers called")
}

// sameHost reports whether two addresses are of one host, whichever interface they were seen on.
func sameHost(a, b netip.Addr) bool {
	return a.IsValid() && a.Unmap().WithZone("") == b.Unmap().WithZone("")
}
