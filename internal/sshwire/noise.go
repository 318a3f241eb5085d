package sshwire

import (
	crand "crypto/rand"
	"encoding/binary"
	"math/rand/v2"
)

// noise is the padding of packets. It need not be secret, being encrypted, and it is wanted for every packet: so it is made of
// random bytes of the system once, and not each time.
type noise struct{ source *rand.ChaCha8 }

func newNoise() *noise {
	var seed [32]byte
	_, _ = crand.Read(seed[:]) // does not fail (crypto/rand)
	return &noise{rand.NewChaCha8(seed)}
}

func (n *noise) append(b []byte, count int) []byte {
	for ; count >= 8; count -= 8 {
		b = binary.LittleEndian.AppendUint64(b, n.source.Uint64())
	}
	if count > 0 {
		var word [8]byte
		binary.LittleEndian.PutUint64(word[:], n.source.Uint64())
		b = append(b, word[:count]...)
	}
	return b
}
