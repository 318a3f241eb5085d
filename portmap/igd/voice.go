package igd

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead-net/fairlead/portmap/ssdp"
)

// maxAge is how many seconds a notice holds (UDA 1.1, section 1.2.2: at least 1800), and announceEvery how often it is given anew.
const (
	maxAge        = 1800
	announceEvery = 10 * time.Minute
	secondNotice  = 300 * time.Millisecond // after the first one, which may have been lost
)

// maxErrors is how many errors in a row a socket may have.
const maxErrors = 100

// A voice is the socket for SSDP of one family in a place.
type voice struct {
	*site
	conn   *net.UDPConn
	groups []netip.Addr
}

func (t *site) open(ctx context.Context, family int) (*voice, error) {
	conn, err := openSSDP(ctx, t.place.Interface, family)
	if err != nil {
		return nil, err
	}
	groups := []netip.Addr{netip.MustParseAddr(ssdp.Group4)}
	if family == 6 {
		groups = []netip.Addr{netip.MustParseAddr(ssdp.Group6Link), netip.MustParseAddr(ssdp.Group6Site)}
	}
	return &voice{t, conn, groups}, nil
}

// run answers searches and gives notice until ctx ends; then it says goodbye.
func (v *voice) run(ctx context.Context) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	defer v.conn.Close()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		v.announce(ctx)
		_ = v.conn.SetReadDeadline(time.Unix(1, 0)) // wakes who reads
	})
	return v.answer(ctx)
}

// announce says that the device is there, again and again, and at the end that it leaves.
func (v *voice) announce(ctx context.Context) {
	v.notify(ssdp.Alive)
	timer := time.NewTimer(secondNotice)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			v.notify(ssdp.ByeBye)
			return
		case <-timer.C:
			v.notify(ssdp.Alive)
			timer.Reset(announceEvery - rand.N(announceEvery/4))
		}
	}
}

func (v *voice) notify(kind ssdp.Kind) {
	for _, group := range v.groups {
		own, ok := address(v.place, group, netip.Addr{})
		if !ok {
			continue
		}
		d := v.deviceFor(own)
		host := netip.AddrPortFrom(group, ssdp.Port)
		oob := from(own, v.place.Interface.Index)
		for _, o := range d.offers {
			if o.quiet {
				continue
			}
			m := ssdp.Message{
				Kind: kind, Host: host.String(), Target: o.target, USN: ssdp.USN(o.uuid, o.target), Location: v.url(own), Agent: d.agent,
				MaxAge: maxAge, Boot: v.boot, Config: d.config,
			}
			if _, _, err := v.conn.WriteMsgUDPAddrPort(m.Append(nil), oob, host); err != nil {
				v.Log.Debug("UPnP: a notice was not sent", keyInterface, v.place.Interface.Name, keyTo, host, keyError, err)
				return
			}
		}
	}
}

// answer answers searches. Anything else is nobody's business here.
func (v *voice) answer(ctx context.Context) error {
	buf, oob := make([]byte, ssdp.MaxLen+1), make([]byte, oobSize)
	for failed := 0; ; {
		n, k, _, client, err := v.conn.ReadMsgUDPAddrPort(buf, oob)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil: // as a rule, that somebody was not there for an answer
			if failed++; failed > maxErrors || errors.Is(err, net.ErrClosed) || isGone(err) {
				return err
			}
			continue
		}
		failed = 0
		to, index, ok := arrived(oob[:k])
		if !ok || index != v.place.Interface.Index {
			continue
		}
		v.search(buf[:n], client, to)
	}
}

// search answers one datagram that was sent to an address of this host, or to a group. The answers leave at once: they are due within
// MX seconds, and there are clients that do not wait as long as one.
func (v *voice) search(b []byte, client netip.AddrPort, to netip.Addr) {
	own, answers := v.answers(b, client, to, time.Now())
	if len(answers) == 0 {
		return
	}
	oob := from(own, v.place.Interface.Index)
	for i := range answers {
		if _, _, err := v.conn.WriteMsgUDPAddrPort(answers[i].Append(nil), oob, client); err != nil {
			v.Log.Debug("UPnP: an answer was not sent", keyTo, client, keyError, err)
			return
		}
	}
}

// lowPort: below it there are services, which no search comes from, and which might take an answer for a question.
const lowPort = 1024

// answers is what a datagram deserves, and with which address of this host. A search to somebody else, or from elsewhere, gets nothing.
func (t *site) answers(b []byte, client netip.AddrPort, to netip.Addr, now time.Time) (own netip.Addr, list []ssdp.Message) {
	to = to.Unmap().WithZone("")
	if client.Port() < lowPort || !within(t.place, client.Addr()) || !to.IsMulticast() && !owns(t.place, to) {
		return own, nil
	}
	m, err := ssdp.Parse(b)
	if err != nil || m.Kind != ssdp.Search {
		return own, nil
	}
	own, ok := address(t.place, client.Addr(), to)
	if !ok {
		return own, nil
	}
	d := t.deviceFor(own)
	hits := d.find(m.Target)
	if len(hits) == 0 || !t.meter.allow(client.Addr().WithZone(""), len(hits), now) {
		return own, nil
	}
	location := t.url(own)
	for _, h := range hits {
		list = append(list, ssdp.Message{
			Kind: ssdp.Answer, Target: h.target, USN: h.usn, Location: location, Agent: d.agent, MaxAge: maxAge, Boot: t.boot, Config: d.config,
		})
	}
	return own, list
}
