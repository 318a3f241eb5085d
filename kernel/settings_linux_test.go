package kernel

import (
	"slices"
	"strings"
	"testing"
)

// FuzzSettings feeds the reader of the router's notes with anything: what it takes can be written, and names no other setting.
func FuzzSettings(f *testing.F) {
	f.Add("# a\nboot 1-2\nnet/ipv6/conf/eth0.5/accept_ra 1 2\nnet/ipv4/ip_forward 0 1\n")
	f.Add("net/ipv6/conf/../../../kernel/panic/accept_ra 1 2\n")
	f.Add("net/ipv4/ip_forward 0\nboot\n")
	f.Fuzz(func(t *testing.T, text string) {
		boot, list, err := parseSettings([]byte(text))
		if err != nil {
			return
		}
		for _, s := range list {
			if !strings.HasPrefix(s.path, "net/ipv") || strings.Contains(s.path, "..") && strings.Contains(s.path, "/../") || strings.Count(s.path, "/") > 4 {
				t.Errorf("took %q", s.path)
			}
		}
		if boot == "" {
			boot = "x"
		}
		again, same, err := parseSettings(formatSettings(boot, list))
		if err != nil || again != boot || !slices.Equal(list, same) {
			t.Errorf("%q became %q, %+v: %v", text, again, same, err)
		}
	})
}
