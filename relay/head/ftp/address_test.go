package ftp

import (
	"net/netip"
	"testing"
)

func TestAddresses(t *testing.T) {
	type result struct{ at, err string }
	show := func(at netip.AddrPort, err error) result {
		if err != nil {
			return result{err: err.Error()}
		}
		return result{at: at.String()}
	}
	for in, want := range map[string]string{
		"192,0,2,1,4,1": "192.0.2.1:1025", " 1,2,3,4,5,6": "", "1,2,3,4,5,6 ": "1.2.3.4:1286", "255,255,255,255,255,255": "255.255.255.255:65535",
		"": "", "1,2,3,4,5": "", "1,2,3,4,5,6,7": "", "256,2,3,4,5,6": "", "1,2,3,4,5,1000": "", "1,2,3,4,-5,6": "", "1;2;3;4;5;6": "", "1,2,3,4,5,6x": "", ",,,,,": "",
	} {
		if got := show(parsePort(in)); got.at != want {
			t.Errorf("PORT %q: %v, want %q", in, got, want)
		}
	}
	for in, want := range map[string]result{
		"|1|192.0.2.1|1025|": {at: "192.0.2.1:1025"}, "|2|2001:db8::1|65535|": {at: "[2001:db8::1]:65535"}, "!1!192.0.2.1!7!": {at: "192.0.2.1:7"},
		"|2|::ffff:192.0.2.1|1025|": {at: "192.0.2.1:1025"}, "|3|192.0.2.1|1025|": {err: errProtocol.Error()},
		"|1|2001:db8::1|1025|": {err: errAddress.Error()}, "|2|192.0.2.1|1025|": {err: errAddress.Error()}, "|1|192.0.2.1|99999|": {err: errAddress.Error()},
		"|1|192.0.2.1|1025": {err: errAddress.Error()}, "": {err: errAddress.Error()}, "|": {err: errAddress.Error()}, "|||||": {err: errAddress.Error()},
		"|1|host.example|1025|": {err: errAddress.Error()}, "|1|192.0.2.1|+25|": {err: errAddress.Error()}, "|1|192.0.2.1||": {err: errAddress.Error()},
	} {
		if got := show(parseExtended(in)); got != want {
			t.Errorf("EPRT %q: %v, want %v", in, got, want)
		}
	}
	for in, want := range map[string]uint16{
		"Entering Passive Mode (192,168,1,10,4,1).": 1025, "=192,168,1,10,200,10": 51210, "Passive 1,2,3,4,5,6": 1286, "go: 7 1,2,3,4,5,6": 1286,
		"": 0, "Entering Passive Mode": 0, "(1,2,3,4,5)": 0, "(1,2,3,4,5,256)": 0, "(0,1,2,3,4,5,6)": 0,
	} {
		if got, err := parsePassive([]byte(in)); got != want || (err == nil) != (want != 0) {
			t.Errorf("227 %q: %d, %v, want %d", in, got, err, want)
		}
	}
	for in, want := range map[string]uint16{
		"Entering Extended Passive Mode (|||6446|)": 6446, "(!!!1!)": 1, "ok (|||65535|) bye": 65535,
		"": 0, "(|||65536|)": 0, "(||1|)": 0, "(||||)": 0, "(|||1|": 0, "|||1|": 0, "(|||1)": 0, "(": 0, "(|||-1|)": 0, "(   1 )": 0,
	} {
		if got, err := parseExtendedPassive([]byte(in)); got != want || (err == nil) != (want != 0) {
			t.Errorf("229 %q: %d, %v, want %d", in, got, err, want)
		}
	}
}

func TestWithoutTelnet(t *testing.T) {
	for in, want := range map[string]string{
		"ABOR\r\n": "ABOR\r\n", "\xff\xf4\xff\xf2ABOR\r\n": "ABOR\r\n", "\xff\xf4\xffABOR\r\n": "ABOR\r\n", "\xff\xfd\x06STAT\r\n": "STAT\r\n",
		"RETR \xff\xff\r\n": "RETR \xff\xff\r\n", "RETR \xffa\r\n": "RETR \xffa\r\n", "\xff": "\xff", "\xff\xfb": "", "": "", "a\xff\xf2\r\n": "a\r\n",
	} {
		if got := string(withoutTelnet([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func FuzzAddress(f *testing.F) {
	for _, s := range []string{"192,0,2,1,4,1", "|1|192.0.2.1|1025|", "|2|2001:db8::1|65535|", "Entering Passive Mode (192,168,1,10,4,1).", "(|||6446|)"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := parsePort(s); err == nil {
			if again, err := parsePort(commas(at)); err != nil || again != at {
				t.Errorf("PORT %q is %v and %v", s, at, again)
			}
			if port, err := parsePassive([]byte("(" + commas(at) + ")")); err != nil || port != at.Port() {
				t.Errorf("227 of %v has port %d, %v", at, port, err)
			}
		}
		if at, err := parseExtended(s); err == nil {
			if again, err := parseExtended(extended(at)); err != nil || again != at {
				t.Errorf("EPRT %q is %v and %v", s, at, again)
			}
		}
		_, _ = parsePassive([]byte(s))
		_, _ = parseExtendedPassive([]byte(s))
		_ = withoutTelnet([]byte(s))
	})
}
