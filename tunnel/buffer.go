package tunnel

import "sync"

// How lanes are read.
const (
	readSmall = 4 << 10
	readLarge = 128 << 10
)

var (
	smallPool = sync.Pool{New: func() any { return new([readSmall]byte) }}
	largePool = sync.Pool{New: func() any { return new([readLarge]byte) }}
)

// An inBuffer is what a lane is read into: large while a lot comes, and nothing while nothing comes, where the lane can say so.
type inBuffer struct {
	b     []byte
	have  int // bytes in it
	small *[readSmall]byte
	large *[readLarge]byte
}

// hold makes room, for a lot or not. What there is stays.
func (b *inBuffer) hold(large bool) {
	switch {
	case large && b.large == nil:
		b.large = largePool.Get().(*[readLarge]byte)
		copy(b.large[:], b.b[:b.have])
		b.b = b.large[:]
		b.freeSmall()
	case b.b == nil:
		b.small = smallPool.Get().(*[readSmall]byte)
		b.b = b.small[:]
	}
}

// release gives up as much room as what there is permits.
func (b *inBuffer) release() {
	if b.have == 0 {
		b.free()
	} else if b.large != nil && b.have <= readSmall {
		small := smallPool.Get().(*[readSmall]byte)
		copy(small[:], b.b[:b.have])
		b.freeLarge()
		b.small, b.b = small, small[:]
	}
}

func (b *inBuffer) free() {
	b.freeSmall()
	b.freeLarge()
	b.b = nil
}

func (b *inBuffer) freeSmall() {
	if b.small != nil {
		smallPool.Put(b.small)
		b.small = nil
	}
}

func (b *inBuffer) freeLarge() {
	if b.large != nil {
		largePool.Put(b.large)
		b.large = nil
	}
}
