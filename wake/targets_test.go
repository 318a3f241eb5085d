package wake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

func TestTargets(t *testing.T) {
	lookup := func(_ context.Context, _, host string) ([]netip.Addr, error) {
		if host != "nas.lan" {
			return nil, errors.New("no such host")
		}
		return []netip.Addr{netip.MustParseAddr("::ffff:192.0.2.7"), netip.MustParseAddr("2001:db8::7")}, nil
	}
	a, b := forward.MAC{2, 0, 0, 0, 0, 10}, forward.MAC{2, 0, 0, 0, 0, 11}
	for _, c := range []struct {
		to   []string
		macs []forward.MAC
		want string
	}{
		{[]string{"192.0.2.1:80"}, []forward.MAC{a}, "[02:00:00:00:00:0a [192.0.2.1]]"},
		{[]string{"192.0.2.1"}, []forward.MAC{a, b}, "[02:00:00:00:00:0a [192.0.2.1]] [02:00:00:00:00:0b [192.0.2.1]]"},
		{[]string{"192.0.2.1", "192.0.2.2"}, []forward.MAC{a, b}, "[02:00:00:00:00:0a [192.0.2.1]] [02:00:00:00:00:0b [192.0.2.2]]"},
		{[]string{"192.0.2.1:1", "192.0.2.1:2", "192.0.2.2"}, []forward.MAC{a}, "[02:00:00:00:00:0a [192.0.2.1 192.0.2.2]]"},
		{[]string{"nas.lan:445"}, []forward.MAC{a}, "[02:00:00:00:00:0a [192.0.2.7 2001:db8::7]]"},
		{[]string{"gone.lan:445"}, []forward.MAC{a}, "[02:00:00:00:00:0a []]"},
		{[]string{"192.0.2.1"}, nil, ""},
	} {
		f := &forward.Forward{Wake: forward.Wake{MACs: c.macs, Password: testSix}}
		for _, s := range c.to {
			to, err := forward.ParseTarget(s)
			if err != nil {
				t.Fatal(err)
			}
			f.To = append(f.To, to)
		}
		got, separator := "", ""
		for _, target := range Targets(t.Context(), f, lookup) {
			got += fmt.Sprintf("%s[%v %v]", separator, target.MAC, target.Addrs)
			separator = " "
			if target.Password != testSix {
				t.Errorf("%v: the password is missing", c.to)
			}
		}
		if got != c.want {
			t.Errorf("%v, %v: %s, want %s", c.to, c.macs, got, c.want)
		}
	}
}
