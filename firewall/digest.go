package firewall

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
)

// digest is a number that another one takes the place of when rules change: what is counted is left out, and so are
// Fairlead's own rules. A rule is known by its handle, for the kernel gives a changed one another.
func (d *Dump) digest() uint64 {
	var h maphash.Hash
	h.SetSeed(digestSeed)
	put := func(list []Object, kinds ...int) {
		h.WriteByte('|')
		for _, o := range list {
			a := attrs(o.Attrs)
			if isOwnTable(a.text(1)) {
				continue
			}
			h.WriteByte(o.Family)
			for _, kind := range kinds {
				h.Write(binary.NativeEndian.AppendUint32(nil, uint32(len(a[kind]))))
				h.Write(a[kind])
			}
		}
	}
	put(d.Tables, 1, 2, 4)
	put(d.Chains, 1, 2, 3, 4, 5)
	put(slices.DeleteFunc(slices.Clone(d.Rules), func(o Object) bool {
		return parseRule(attrs(o.Attrs), &tableInfo{id: tableID{family: o.Family}}).ours()
	}), 1, 2, 3)
	put(d.Sets, 1, 2, 3, 4, 5, 16)
	put(d.Elements, 1, 2)
	for _, o := range d.Elements {
		eachAttr(attrs(o.Attrs)[3], func(_ uint16, item []byte) {
			a := attrs(item)
			for _, kind := range []int{1, 2, 3, 10} {
				h.Write(a[kind])
			}
		})
	}
	for _, s := range d.Legacy {
		h.WriteString(s.Text)
	}
	return h.Sum64()
}

var digestSeed = maphash.MakeSeed()
