package nodetest

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"

	"github.com/fairlead-net/fairlead/forward"
	"github.com/fairlead-net/fairlead/node"
)

// Forwards is a node.Forwards that listens on a node and copies bytes: what a table and a relay do, and no more. The zero value is not of
// use without At.
type Forwards struct {
	At interface { // who listens
		node.Node
		node.PacketNode
	}

	mu    sync.Mutex
	next  int
	doors map[string]*door
}

// A door is one listener.
type door struct {
	key    string
	listen forward.Door
	stream net.Listener
	packet net.PacketConn
	wg     sync.WaitGroup

	mu    sync.Mutex
	node  node.Node
	conns map[net.Conn]bool
	shut  bool
}

// Put is that of node.Forwards.
func (f *Forwards) Put(ctx context.Context, key string, listen forward.Door, n node.Node) (string, forward.Door, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, d := range f.doors {
		if d.key == key && d.listen.Equal(listen) {
			d.mu.Lock()
			d.node = n
			d.mu.Unlock()
			return name, d.listen, nil
		}
	}
	d := &door{key: key, listen: listen, node: n, conns: map[net.Conn]bool{}}
	var port uint16
	if len(listen.Ports.Ranges) > 0 {
		port = listen.Ports.Ranges[0].First
	}
	addr := fmt.Sprintf(":%d", port)
	if listen.Addr.IsValid() {
		addr = netip.AddrPortFrom(listen.Addr, port).String()
	}
	var err error
	var bound net.Addr
	if listen.Networks == forward.UDP {
		if d.packet, err = f.At.ListenPacket(ctx, "udp", addr); err == nil {
			bound = d.packet.LocalAddr()
		}
	} else if d.stream, err = f.At.Listen(ctx, "tcp", addr); err == nil {
		bound = d.stream.Addr()
	}
	if err != nil {
		return "", listen, err
	}
	at := netip.MustParseAddrPort(bound.String())
	d.listen.Ports = forward.Ports{Ranges: []forward.Range{{First: at.Port(), Last: at.Port()}}}
	if f.doors == nil {
		f.doors = map[string]*door{}
	}
	f.next++
	name := fmt.Sprintf("door-%d", f.next)
	f.doors[name] = d
	if d.packet != nil {
		d.wg.Go(d.serveFlows)
	} else {
		d.wg.Go(d.serveStreams)
	}
	return name, d.listen, nil
}

// Delete is that of node.Forwards. It returns when all that the listener had has ended.
func (f *Forwards) Delete(_ context.Context, name string, n node.Node) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	d := f.doors[name]
	if d == nil || d.dialsFrom() != n {
		return nil
	}
	delete(f.doors, name)
	d.close()
	return nil
}

// Open lists where it listens.
func (f *Forwards) Open() []forward.Door {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []forward.Door
	for _, d := range f.doors {
		list = append(list, d.listen)
	}
	return list
}

// Close closes all.
func (f *Forwards) Close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for name, d := range f.doors {
		delete(f.doors, name)
		d.close()
	}
}

func (d *door) dialsFrom() node.Node {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.node
}

func (d *door) close() {
	d.mu.Lock()
	d.shut = true
	if d.stream != nil {
		_ = d.stream.Close()
	} else {
		_ = d.packet.Close()
	}
	for c := range d.conns {
		_ = c.Close()
	}
	d.mu.Unlock()
	d.wg.Wait()
}

// keep takes a connection in, to be closed with the door.
func (d *door) keep(c net.Conn) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.shut {
		_ = c.Close()
		return false
	}
	d.conns[c] = true
	return true
}

func (d *door) drop(c net.Conn) {
	_ = c.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
}

func (d *door) serveStreams() {
	for {
		c, err := d.stream.Accept()
		if err != nil {
			return
		}
		d.wg.Go(func() { d.serve(c) })
	}
}

func (d *door) serve(c net.Conn) {
	if !d.keep(c) {
		return
	}
	defer d.drop(c)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, _ := netip.ParseAddrPort(c.RemoteAddr().String())
	var far net.Conn
	var err error
	if n, ok := d.dialsFrom().(node.Introducer); ok {
		far, err = n.DialFor(ctx, client, "tcp", d.stream.Addr().String())
	} else {
		far, err = d.dialsFrom().Dial(ctx, "tcp", d.stream.Addr().String())
	}
	if err != nil || !d.keep(far) {
		return
	}
	defer d.drop(far)
	var back sync.WaitGroup
	back.Go(func() { half(c, far) })
	half(far, c)
	back.Wait()
}

func half(to, from net.Conn) {
	if _, err := io.Copy(to, from); err != nil {
		_ = to.Close()
		return
	}
	if w, ok := to.(interface{ CloseWrite() error }); ok {
		_ = w.CloseWrite()
	}
}

func (d *door) serveFlows() {
	flows := map[string]net.Conn{}
	buf := make([]byte, 65536)
	for {
		n, from, err := d.packet.ReadFrom(buf)
		if err != nil {
			return
		}
		flow := flows[from.String()]
		if flow == nil {
			if flow = d.flow(from); flow == nil {
				continue
			}
			flows[from.String()] = flow
		}
		if _, err := flow.Write(buf[:n]); err != nil {
			delete(flows, from.String())
		}
	}
}

// flow opens the flow of a client, and has its answers sent.
func (d *door) flow(from net.Addr) net.Conn {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	client, _ := netip.ParseAddrPort(from.String())
	n, ok := d.dialsFrom().(node.PacketIntroducer)
	if !ok {
		return nil
	}
	flow, err := n.DialPacketFor(ctx, client, "udp", d.packet.LocalAddr().String())
	if err != nil || !d.keep(flow) {
		return nil
	}
	d.wg.Go(func() {
		defer d.drop(flow)
		buf := make([]byte, 65536)
		for {
			n, err := flow.Read(buf)
			if err != nil {
				return
			}
			_, _ = d.packet.WriteTo(buf[:n], from)
		}
	})
	return flow
}
