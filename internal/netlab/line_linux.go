package netlab

import (
	"fmt"
	"sync"
	"time"
)

// A Quality is what a line does to the packets of one direction. Its zero value carries them as they come.
type Quality struct {
	Delay time.Duration // how much later each packet arrives
	Loss  float64       // the share of packets that do not arrive, 0 to 1; ARP and neighbour discovery are spared, since the far end is meant to be further away than that
	Rate  int64         // bits a second; 0: no limit
	Queue time.Duration // how long a packet may wait for its turn at Rate before it is lost; 0: a tenth of a second
	Seed  uint64        // of what is lost: the same packets are lost of the same ones
}

// Delayed is a line of which a packet and its answer together take so much longer.
func Delayed(roundTrip time.Duration) Quality { return Quality{Delay: roundTrip / 2} }

// A Line joins two hosts like Link does, but every packet passes through this process, which can hold it up, lose it, or cut the
// line. The kernel's own netem, where there is one, would do the same on a port of a Switch; this needs nothing but packet sockets.
//
//	a ── veth ── a' [packet socket, queue, packet socket] b' ── veth ── b
//
// Segments that the kernel keeps together (TSO, GRO, UDP_SEGMENT) cross as one while nothing is lost or limited, which is good for
// some Gb/s; else the hosts are made to send each packet by itself, so that losing one loses one.
type Line struct {
	lab   *Lab
	node  *Node // between the hosts
	ends  [2]End
	ways  [2]*way // from the first end to the second, and back
	tasks sync.WaitGroup
}

// A Traffic is what a line has done, in frames, of which the kernel may have made one out of several packets.
type Traffic struct {
	Carried uint64
	Lost    uint64 // by chance, or since the line was cut
	Full    uint64 // for want of room
}

// Line makes one, that carries everything until it is told otherwise.
func (l *Lab) Line(a, b End) *Line {
	l.tb.Helper()
	l.lines++
	line := &Line{lab: l, node: l.Node(fmt.Sprintf("line%d", l.lines)), ends: [2]End{a, b}}
	for i, name := range lineSides {
		// The line's own sides neither answer nor ask: what they would say is not the hosts' traffic.
		line.node.Sysctl(l.tb, "net.ipv6.conf.default.disable_ipv6", "1")
		if err := l.link(line.ends[i], End{Node: line.node, Interface: name}); err != nil {
			l.tb.Fatalf("netlab: line of %s.%s and %s.%s: %v", a.Node, a.Interface, b.Node, b.Interface, err)
		}
	}
	var taps [2]*tap
	for i, name := range lineSides {
		var err error
		if taps[i], err = openTap(line.node, name); err != nil {
			l.tb.Fatalf("netlab: line of %s.%s and %s.%s: %v", a.Node, a.Interface, b.Node, b.Interface, err)
		}
	}
	line.ways = [2]*way{newWay(taps[0], taps[1]), newWay(taps[1], taps[0])}
	for _, w := range line.ways {
		line.tasks.Go(w.receive)
		line.tasks.Go(w.deliver)
	}
	l.tb.Cleanup(line.close)
	return line
}

// lineSides are the interfaces between, in the order of the ends.
var lineSides = [2]string{"a", "b"}

func (l *Line) close() {
	for _, w := range l.ways {
		w.close()
	}
	l.tasks.Wait()
}

// Set gives both directions the same quality. What is on its way arrives as it would have. Chance begins anew with the seed.
func (l *Line) Set(q Quality) { l.lab.tb.Helper(); l.SetEach(q, q) }

// SetEach gives each direction its own: from the first end to the second, and back.
func (l *Line) SetEach(there, back Quality) {
	l.lab.tb.Helper()
	for i, q := range [2]Quality{there, back} {
		if q.Loss < 0 || q.Loss > 1 || q.Delay < 0 || q.Rate < 0 || q.Queue < 0 {
			l.lab.tb.Fatalf("netlab: a line cannot be %+v", q)
		}
		e := l.ends[i]
		segments := manySegments
		if q.Loss > 0 || q.Rate > 0 {
			segments = 1
		}
		link, err := e.Node.nl.LinkByName(e.Interface)
		if err == nil {
			err = e.Node.nl.LinkSetGSOMaxSegs(link, segments)
		}
		if err != nil {
			l.lab.tb.Fatalf("netlab: packets of %s.%s: %v", e.Node, e.Interface, err)
		}
	}
	for i, q := range [2]Quality{there, back} {
		l.ways[i].set(q, uint64(i))
	}
}

// manySegments is the kernel's own limit of packets in one, GSO_MAX_SEGS.
const manySegments = 65535

// Cut loses every packet, those on their way as well, and tells nobody: the hosts see a line that is up. Mend ends that.
func (l *Line) Cut() { l.cut(true) }

// Mend has a line that was cut carry again.
func (l *Line) Mend() { l.cut(false) }

func (l *Line) cut(cut bool) {
	for _, w := range l.ways {
		w.cut(cut)
	}
}

// Unplug takes the carrier away from both hosts, which notice at once. Addresses and routes stay. Plug ends that.
func (l *Line) Unplug() { l.lab.tb.Helper(); l.plug(false) }

// Plug gives the carrier back, mends the line if it was cut, and returns when both hosts have seen it.
func (l *Line) Plug() { l.lab.tb.Helper(); l.plug(true) }

func (l *Line) plug(up bool) {
	l.lab.tb.Helper()
	l.cut(!up)
	for i, name := range lineSides {
		link, err := l.node.nl.LinkByName(name)
		if err == nil && up {
			err = l.node.nl.LinkSetUp(link)
		} else if err == nil {
			err = l.node.nl.LinkSetDown(link)
		}
		if err == nil && up {
			err = l.ends[i].waitCarrier()
		}
		if err != nil {
			l.lab.tb.Fatalf("netlab: plug of %s.%s: %v", l.ends[i].Node, l.ends[i].Interface, err)
		}
	}
}

// Traffic is what each direction has done up to now.
func (l *Line) Traffic() (there, back Traffic) { return l.ways[0].traffic(), l.ways[1].traffic() }
