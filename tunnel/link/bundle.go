package link

import "encoding/binary"

// Datagrams that are small and wait at the same time share one of QUIC's, since each of those costs a packet to itself. A bundle is a zero, which
// no datagram begins with, and each datagram after its length in two bytes.
const (
	bundleMark = 0
	bundleMost = 1100 // bytes, as many as fit into every packet
	bundleHead = 2
)

// appendBundled puts p into a bundle, which is begun with the first one.
func appendBundled(b, p []byte) []byte {
	if len(b) == 0 {
		b = append(b, bundleMark)
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(p))), p...)
}

// bundled reports whether p still fits into a bundle of n bytes.
func bundled(n int, p []byte) bool { return max(n, 1)+bundleHead+len(p) <= bundleMost }

// eachDatagram calls got for what has come: for a datagram, or for each of a bundle. What is cut off is lost, like any datagram.
func eachDatagram(p []byte, got func([]byte)) {
	if len(p) == 0 { // it asks whether somebody is there
		return
	}
	if p[0] != bundleMark {
		got(p)
		return
	}
	for p = p[1:]; len(p) > bundleHead; {
		n := int(binary.BigEndian.Uint16(p))
		if p = p[bundleHead:]; n > len(p) {
			return
		}
		if n > 0 && p[0] != bundleMark {
			got(p[:n])
		}
		p = p[n:]
	}
}
