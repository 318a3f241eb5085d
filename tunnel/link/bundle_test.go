package link

import (
	"bytes"
	"slices"
	"testing"
)

func unbundle(p []byte) (all [][]byte) {
	eachDatagram(p, func(q []byte) { all = append(all, slices.Clone(q)) })
	return all
}

func TestBundles(t *testing.T) {
	var b []byte
	var want [][]byte
	for i := 1; ; i++ {
		p := bytes.Repeat([]byte{byte(i)}, i)
		if !bundled(len(b), p) {
			break
		}
		b, want = appendBundled(b, p), append(want, p)
	}
	if len(b) > bundleMost || len(want) < 30 {
		t.Fatalf("%d datagrams in %d bytes", len(want), len(b))
	}
	if got := unbundle(b); !slices.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("what comes out is not what was put in: %v", got)
	}
	if got := unbundle([]byte{7, 0, 0}); len(got) != 1 || len(got[0]) != 3 {
		t.Errorf("a datagram alone: %v", got)
	}
	for name, p := range map[string][]byte{
		"nothing": nil, "an empty bundle": {0}, "half a length": {0, 0}, "empty ones": {0, 0, 0, 0, 0}, "cut off": {0, 0, 9, 1, 1}, "within another": {0, 0, 4, 0, 0, 1, 1},
	} {
		if got := unbundle(p); len(got) != 0 {
			t.Errorf("%s: %v", name, got)
		}
	}
	if got := unbundle(b[:len(b)-1]); len(got) != len(want)-1 {
		t.Errorf("without its last byte there are %d datagrams in it", len(got))
	}
}

func FuzzBundle(f *testing.F) {
	f.Add([]byte{0, 0, 1, 1, 0, 2, 2, 2})
	f.Add([]byte{1, 2, 3})
	f.Fuzz(func(t *testing.T, p []byte) {
		var again []byte
		n := 0
		for _, q := range unbundle(p) {
			if len(q) == 0 || q[0] == bundleMark {
				t.Fatalf("%v is no datagram", q)
			}
			if len(p) > 0 && p[0] == bundleMark {
				again = appendBundled(again, q)
				n++
			}
		}
		if got := unbundle(again); len(got) != n {
			t.Fatalf("%d datagrams, and then %d", n, len(got))
		}
	})
}
