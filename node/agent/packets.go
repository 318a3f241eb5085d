package agent

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-net/fairlead/internal/deadline"
	"github.com/fairlead-net/fairlead/node"
)

// maxDatagram is more than UDP carries over IPv4 or IPv6 without jumbograms (RFC 768; 65507 over IPv4).
const maxDatagram = 65535

// datagramQueue is how many datagrams wait for ReadFrom. What comes on top of them is lost, as in a socket.
const (
	datagramQueue = 512
	datagramBytes = 4 << 20 // in all of them
)

// A packetConn has datagrams of clients received at the other end. Each client is a flow.
type packetConn struct {
	*asking
	got     chan datagram
	waiting atomic.Int64 // bytes of what has come
	reading deadline.Deadline

	mu    sync.Mutex
	flows map[netip.AddrPort]net.Conn
	next  uint64 // of clients without an address
}

type datagram struct {
	data []byte
	from netip.AddrPort
}

var _ node.Stated = (*packetConn)(nil)

// ListenPacket is Listen for datagrams. LocalAddr knows a port that was picked when State is up.
func (f *Far) ListenPacket(ctx context.Context, network, addr string) (net.PacketConn, error) {
	if !isFlow(network) {
		return nil, fmt.Errorf("%s: %w: the network %q", f.name(), node.ErrUnfit, network)
	}
	a, err := f.ask(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &packetConn{
		asking: a, got: make(chan datagram, datagramQueue), reading: deadline.New(), flows: map[netip.AddrPort]net.Conn{},
	}
	if !f.later(c.serve) {
		_ = c.Close()
		return nil, fmt.Errorf("%s: %w", f.name(), node.ErrClosed)
	}
	return c, nil
}

// serve lets flows in until the end, and then ends them.
func (c *packetConn) serve(context.Context) {
	var flows sync.WaitGroup
	defer flows.Wait()
	defer c.endFlows()
	for {
		select {
		case <-c.closed:
			return
		case arrival := <-c.queue:
			conn, err := c.far.accept(arrival)
			if err != nil {
				continue
			}
			from := c.enter(arrival.Client, conn)
			flows.Go(func() { c.receive(conn, from) })
		}
	}
}

// enter makes a flow the one that answers to its client get. A client has one: of two the older has been given up at the other end.
func (c *packetConn) enter(from netip.AddrPort, flow net.Conn) netip.AddrPort {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !from.IsValid() {
		c.next++
		from = unknownClient(c.next)
	}
	if old := c.flows[from]; old != nil {
		_ = old.Close()
	}
	c.flows[from] = flow
	return from
}

// unknownClient stands for one whose address nobody has said, and is nobody's (RFC 6666).
func unknownClient(n uint64) netip.AddrPort {
	b := [16]byte{0: 0x01}
	binary.BigEndian.PutUint64(b[8:], n)
	return netip.AddrPortFrom(netip.AddrFrom16(b), 1)
}

// receive takes in what comes on a flow, until its end.
func (c *packetConn) receive(flow net.Conn, from netip.AddrPort) {
	defer c.exit(flow, from)
	_ = datagrams(flow, func(p []byte) error {
		if c.waiting.Add(int64(len(p))) > datagramBytes {
			c.waiting.Add(-int64(len(p)))
			return nil
		}
		select {
		case c.got <- datagram{append([]byte{}, p...), from}:
		default: // nobody reads so fast
			c.waiting.Add(-int64(len(p)))
		}
		return nil
	})
}

func (c *packetConn) exit(flow net.Conn, from netip.AddrPort) {
	_ = flow.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.flows[from] == flow {
		delete(c.flows, from)
	}
}

func (c *packetConn) endFlows() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, flow := range c.flows {
		_ = flow.Close()
	}
}

// ReadFrom returns one datagram, and the client that it is from.
func (c *packetConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		passed := c.reading.Wait()
		select {
		case <-passed:
			return 0, nil, c.fail("read", os.ErrDeadlineExceeded)
		case <-c.closed:
			return 0, nil, c.fail("read", c.end())
		default:
		}
		select {
		case d := <-c.got:
			c.waiting.Add(-int64(len(d.data)))
			return copy(p, d.data), net.UDPAddrFromAddrPort(d.from), nil
		case <-passed:
		case <-c.closed:
		}
	}
}

// WriteTo answers a client. Without a flow of his the datagram is lost.
func (c *packetConn) WriteTo(p []byte, to net.Addr) (int, error) {
	var client netip.AddrPort
	if u, ok := to.(*net.UDPAddr); ok {
		client = u.AddrPort()
	}
	c.mu.Lock()
	flow := c.flows[client]
	if flow == nil {
		flow = c.flows[netip.AddrPortFrom(client.Addr().Unmap(), client.Port())]
	}
	c.mu.Unlock()
	select {
	case <-c.closed:
		return 0, c.fail("write", c.end())
	default:
	}
	if flow == nil {
		return len(p), nil
	}
	if _, err := flow.Write(p); err != nil && !over(err) {
		return 0, c.fail("write", err)
	}
	return len(p), nil
}

// over reports whether err is that a flow has ended: its client is gone, and the others are not.
func over(err error) bool {
	return errors.Is(err, net.ErrClosed) || errors.Is(err, node.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}

func (c *packetConn) fail(op string, err error) error {
	return &net.OpError{Op: op, Net: c.network, Addr: c.LocalAddr(), Err: err}
}

func (c *packetConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.where()) }

// Close has the other end close, and ends all flows.
func (c *packetConn) Close() error {
	if err := c.close(); err != nil {
		return c.fail("close", err)
	}
	return nil
}

func (c *packetConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func (c *packetConn) SetReadDeadline(t time.Time) error {
	c.reading.Set(t)
	return nil
}

// SetWriteDeadline does nothing: datagrams do not wait.
func (c *packetConn) SetWriteDeadline(time.Time) error { return nil }
