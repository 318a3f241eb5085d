package sshwire

import (
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"slices"
)

// A packet (RFC 4253, section 6), with AES-GCM as OpenSSH has it (RFC 5647, but for how it is negotiated):
//
//	length (4) │ padding length (1) │ message (1), the rest of the payload │ padding (4 or more) │ tag (16)
//	in clear   │◄──────────────── encrypted; a multiple of 16 bytes ──────────────────────►│
const (
	packetHead = 4 + 1
	minPadding = 4
	tagSize    = 16
	aesBlock   = 16
	plainBlock = 8 // before there are keys, and then the length counts as well

	// mostPacket is the longest packet that is taken: as long as OpenSSH's, plus what is around the payload. Before the login
	// 35000 bytes are enough for everything (section 6.1).
	mostPacket      = 256<<10 + 512
	mostPlainPacket = 35000
)

var (
	errTag    = errors.New("an SSH packet was damaged or forged")
	errLength = &protocolError{"a packet has an impossible length"}
)

// A direction is what it takes to encrypt or decrypt the packets that go one way.
type direction struct {
	aead  cipher.AEAD // nil: there are no keys yet
	iv    [12]byte
	seq   uint32 // of the next packet
	moved uint64 // bytes with these keys
}

func newAEAD(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// rekey begins with new keys. Strict key exchange counts the packets anew.
func (d *direction) rekey(aead cipher.AEAD, iv []byte, strict bool) {
	d.aead, d.moved = aead, 0
	copy(d.iv[:], iv)
	if strict {
		d.seq = 0
	}
}

// step counts a packet. The invocation counter is the last 8 bytes of the nonce (RFC 5647, section 7.1).
func (d *direction) step(size int) {
	d.seq++
	d.moved += uint64(size)
	binary.BigEndian.PutUint64(d.iv[4:], binary.BigEndian.Uint64(d.iv[4:])+1)
}

// padding is how much a payload of n bytes gets.
func (d *direction) padding(n int) int {
	block, counted := aesBlock, 1+n
	if d.aead == nil {
		block, counted = plainBlock, packetHead+n
	}
	pad := block - counted%block
	if pad < minPadding {
		pad += block
	}
	return pad
}

// seal makes a packet of the payload that begins at b[at+packetHead] and ends where b does.
func (d *direction) seal(b []byte, at int, noise *noise) []byte {
	n := len(b) - at - packetHead
	pad := d.padding(n)
	b = noise.append(b, pad)
	binary.BigEndian.PutUint32(b[at:], uint32(1+n+pad))
	b[at+4] = byte(pad)
	if d.aead != nil {
		b = slices.Grow(b, tagSize)
		body := d.aead.Seal(b[at+4:at+4], d.iv[:], b[at+4:], b[at:at+4])
		b = b[:at+4+len(body)]
	}
	d.step(len(b) - at)
	return b
}

// open decrypts the packet at the beginning of b, in place. A size of 0 is that it is not there as a whole yet.
func (d *direction) open(b []byte) (payload []byte, size int, err error) {
	if len(b) < 4 {
		return nil, 0, nil
	}
	n, most := int64(binary.BigEndian.Uint32(b)), int64(mostPacket)
	tag, aligned := tagSize, n%aesBlock == 0
	if d.aead == nil {
		most, tag, aligned = mostPlainPacket, 0, (4+n)%plainBlock == 0
	}
	if n > most || n < 1+1+minPadding || !aligned {
		return nil, 0, errLength
	}
	size = 4 + int(n) + tag
	if len(b) < size {
		return nil, 0, nil
	}
	body := b[4:size]
	if d.aead != nil {
		if body, err = d.aead.Open(body[:0], d.iv[:], body, b[:4]); err != nil {
			return nil, 0, errTag
		}
	}
	pad := int(body[0])
	if pad < minPadding || pad > len(body)-2 {
		return nil, 0, errLength
	}
	d.step(size)
	return body[1 : len(body)-pad], size, nil
}
