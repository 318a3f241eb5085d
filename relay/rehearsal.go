package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/fairlead-net/fairlead/relay/head"
)

// A talk is what a client of a dynamic forward has said so far, and how many bytes it was answered.
type talk struct {
	said     []byte
	answered int
}

// retold is the connection of a client with whom somebody has talked before. To the head it seems to begin there.
type retold struct {
	net.Conn
	talk
}

func (r *retold) Read(b []byte) (int, error) {
	if len(r.said) == 0 {
		return r.Conn.Read(b)
	}
	n := copy(b, r.said)
	r.said = r.said[n:]
	return n, nil
}

func (r *retold) Write(b []byte) (int, error) {
	known := min(r.answered, len(b))
	r.answered -= known
	if known == len(b) {
		return known, nil
	}
	n, err := r.Conn.Write(b[known:])
	return known + n, err
}

func (r *retold) CloseWrite() error { return closeWrite(r.Conn) }

// A rehearsal has a prompt head serve a client who has said so much and no more, and sees what comes of it. It is the client, what
// the head may ask for, and the target.
type rehearsal struct {
	*errand
	from    netip.AddrPort
	said    []byte // what the head has not read yet
	answers []byte
	silent  bool   // the head has waited for more
	target  string // where the client goes; "": not known yet
	granted int    // where among answers the one begins that it got there, or not
	refusal error  // of the target; nil: it is reached
}

// What became of a rehearsal.
type cue uint8

const (
	cueMore cue = iota // the client has not said enough
	cueDial
	cueLeave // it takes a goroutine
)

var (
	errSilence = errors.New("the client has said no more")
	errNotHere = errors.New("that takes a goroutine")
)

// rehearse has h serve a client who has said so much. A refusal is what is to come of its target.
func (e *errand) rehearse(ctx context.Context, h head.Head, from netip.AddrPort, said []byte, refusal error) (*rehearsal, cue) {
	r := &rehearsal{errand: e, from: from, said: said, refusal: refusal}
	out, err := h.Serve(ctx, r, r)
	switch {
	case err == nil && out.Target != nil && len(out.Ahead) == 0 && len(r.said) == 0:
		return r, cueDial
	case r.silent && r.target == "":
		return r, cueMore
	}
	return r, cueLeave
}

func (r *rehearsal) Read(b []byte) (int, error) {
	if len(r.said) == 0 {
		r.silent = true
		return 0, errSilence
	}
	n := copy(b, r.said)
	r.said = r.said[n:]
	return n, nil
}

func (r *rehearsal) Write(b []byte) (int, error) {
	r.answers = append(r.answers, b...)
	return len(b), nil
}

// Close is that of the target.
func (r *rehearsal) Close() error { return nil }

// LocalAddr is that of the target, which is the far end's and not known here.
func (r *rehearsal) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4zero} }

// RemoteAddr is that of the client.
func (r *rehearsal) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(r.from) }

func (r *rehearsal) SetDeadline(time.Time) error { return errNotHere }

func (r *rehearsal) SetReadDeadline(time.Time) error { return errNotHere }

func (r *rehearsal) SetWriteDeadline(time.Time) error { return errNotHere }

// Dial judges where the client goes, and returns what stands for the target.
func (r *rehearsal) Dial(ctx context.Context, _, host string, port uint16) (net.Conn, error) {
	targets, err := r.targets(ctx, host, port)
	if err != nil || len(targets) != 1 || r.target != "" {
		return nil, errNotHere
	}
	r.target, r.granted = targets[0], len(r.answers)
	if r.refusal != nil {
		return nil, forHead(r.refusal)
	}
	return r, nil
}

func (r *rehearsal) Settled() {}

func (r *rehearsal) Count(int, int) {}

func (r *rehearsal) Login(context.Context, string, string) error { return errNotHere }

func (r *rehearsal) Listen(context.Context, string, uint16) (net.Listener, error) {
	return nil, errNotHere
}

func (r *rehearsal) ListenPacket(context.Context) (net.PacketConn, error) { return nil, errNotHere }

func (r *rehearsal) Packets(context.Context) (head.PacketTarget, error) { return nil, errNotHere }
