package wake

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

var (
	testMAC  = forward.MAC{0x52, 0x54, 0x00, 0x12, 0x34, 0xab}
	noSecret forward.WakePassword
	testSix  = mustParse("01:02:03:04:05:06")
	testFour = mustParse("192.0.2.1")
)

func mustParse(s string) forward.WakePassword {
	p, err := forward.ParseWakePassword(s)
	if err != nil {
		panic(err)
	}
	return p
}

func TestMagicPacket(t *testing.T) {
	plain := "ffffffffffff" + strings.Repeat("5254001234ab", 16)
	for _, c := range []struct {
		password forward.WakePassword
		want     string
	}{
		{noSecret, plain},
		{testSix, plain + "010203040506"},
		{testFour, plain + "c0000201"},
	} {
		want, err := hex.DecodeString(c.want)
		if err != nil {
			t.Fatal(err)
		}
		if got := MagicPacket(testMAC, c.password); !bytes.Equal(got, want) {
			t.Errorf("with a password of %d bytes: % x, want % x", len(c.password.Bytes()), got, want)
		}
	}
}
