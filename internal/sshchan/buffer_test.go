package sshchan

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"testing/iotest"
)

func TestFitting(t *testing.T) {
	small, packet, large := sizes[0], sizes[1], sizes[2]
	for _, c := range []struct{ class, n, want int }{
		{0, 1, 0}, {0, small - 1, 0}, {0, small, 1},
		{1, packet, 2}, {1, packet - 1, 1}, {1, small + 1, 1}, {1, small, 0},
		{2, large, 2}, {2, packet + 1, 2}, {2, packet, 1}, {2, 0, 1},
	} {
		if got := fitting(c.class, c.n, largest); got != c.want {
			t.Errorf("after %d bytes in a buffer of %d: %d, want %d", c.n, sizes[c.class], sizes[got], sizes[c.want])
		}
	}
}

func TestCopy(t *testing.T) {
	want := bytes.Repeat([]byte("0123456789"), 100<<10)
	for name, from := range map[string]io.Reader{
		"at once":    bytes.NewReader(want),
		"halves":     iotest.HalfReader(bytes.NewReader(want)),
		"with EOF":   iotest.DataErrReader(bytes.NewReader(want)),
		"with pause": io.MultiReader(bytes.NewReader(want[:10]), bytes.NewReader(want[10:5000]), bytes.NewReader(want[5000:])),
	} {
		var to bytes.Buffer
		if err := Copy(&to, from); err != nil || !bytes.Equal(to.Bytes(), want) {
			t.Errorf("%s: %d bytes, %v", name, to.Len(), err)
		}
	}
	broken := errors.New("broken")
	if err := Copy(io.Discard, iotest.ErrReader(broken)); !errors.Is(err, broken) {
		t.Errorf("from what is broken: %v", err)
	}
	r, w := io.Pipe()
	r.CloseWithError(broken)
	if err := Copy(w, bytes.NewReader(want)); !errors.Is(err, broken) {
		t.Errorf("to what is broken: %v", err)
	}
}
