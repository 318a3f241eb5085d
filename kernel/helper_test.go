package kernel

import (
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestNATModuleMissing(t *testing.T) {
	for modules, want := range map[string]string{
		"": "",
		"nf_conntrack_ftp 24576 1 - Live 0x0000000000000000\n":                                  "nf_nat_ftp",
		"nf_nat_ftp 16384 0 - Live 0x0\nnf_conntrack_ftp 24576 1 nf_nat_ftp, Live 0x0\n":        "",
		"nf_conntrack_ftpx 24576 1 - Live 0x0\nnf_conntrack_sip 24576 1 - Live 0x0\n":           "",
		"nf_conntrack_sip 24576 1 - Live 0x0\nnf_conntrack_ftp 24576 1 nf_nat_ftpx, Live 0x0\n": "nf_nat_ftp",
	} {
		if got := natModuleMissing(modules, forward.HelperFTP); got != want {
			t.Errorf("%q: got %q, want %q", modules, got, want)
		}
	}
}
