package wire

import (
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"
)

var errRest = errors.New("there is more in it than there should be")

// A reader takes fields from a body. The first thing that is wrong stays.
type reader struct {
	b   []byte
	err error
}

func (r *reader) number() uint64 {
	v, n := Varint(r.b)
	if n == 0 {
		r.fail(ErrShort)
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) bytes(n int) []byte {
	if n > len(r.b) {
		r.fail(ErrShort)
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// text reads UTF-8 after its length, which is most at most.
func (r *reader) text(most int) string {
	n := r.number()
	if n > uint64(most) {
		r.fail(fmt.Errorf("a text is longer than %d bytes", most))
		return ""
	}
	b := r.bytes(int(n))
	if !utf8.Valid(b) {
		r.fail(errors.New("a text is no UTF-8"))
		return ""
	}
	return string(b)
}

// address reads an address and a port after their length, which is 0, 6 or 18.
func (r *reader) address() netip.AddrPort {
	var a netip.AddrPort
	switch n := r.number(); {
	case r.err != nil || n == 0:
	case n == 6 || n == 18:
		b := r.bytes(int(n))
		if r.err != nil {
			break
		}
		ip, _ := netip.AddrFromSlice(b[:n-2])
		a = netip.AddrPortFrom(ip, uint16(b[n-2])<<8|uint16(b[n-1]))
	default:
		r.fail(errors.New("an address is neither IPv4 nor IPv6"))
	}
	return a
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
	r.b = nil
}

// end is what was wrong, or that something is left.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return errRest
	}
	return r.err
}

// appendText writes text, of which what is beyond most bytes is cut off.
func appendText(b []byte, text string, most int) []byte {
	if len(text) > most {
		for most > 0 && !utf8.RuneStart(text[most]) {
			most--
		}
		text = text[:most]
	}
	if !utf8.ValidString(text) {
		text = clean(text, most)
	}
	return append(AppendVarint(b, uint64(len(text))), text...)
}

// clean is text with what is no UTF-8 taken out.
func clean(text string, most int) string {
	var b []byte
	for _, r := range text {
		if r != utf8.RuneError && len(b)+utf8.RuneLen(r) <= most {
			b = utf8.AppendRune(b, r)
		}
	}
	return string(b)
}

// appendAddress writes an address without its zone, which means nothing elsewhere.
func appendAddress(b []byte, a netip.AddrPort) []byte {
	if !a.IsValid() {
		return append(b, 0)
	}
	ip := a.Addr().AsSlice()
	b = append(b, byte(len(ip)+2))
	b = append(b, ip...)
	return append(b, byte(a.Port()>>8), byte(a.Port()))
}
