package table

import (
	"testing"

	"github.com/fairlead-net/fairlead/forward"
)

// TestPortBits compares what is put in and taken out in words with what is in port by port.
func TestPortBits(t *testing.T) {
	for _, text := range []string{"1", "63", "64", "65535", "1-65535", "63-64", "1-63,64-127,200", "1024-65535", "100-101,130-1000"} {
		ports, err := forward.ParsePorts(text)
		if err != nil {
			t.Fatal(err)
		}
		var b, all PortBits
		b.Add(ports)
		for i := range all {
			all[i] = ^uint64(0)
		}
		all.Remove(ports)
		for port := range 65536 {
			want := ports.Contains(uint16(port))
			if b.Has(uint16(port)) != want || all.Has(uint16(port)) == want {
				t.Fatalf("%s: port %d: %v, %v", text, port, b.Has(uint16(port)), all.Has(uint16(port)))
			}
		}
	}
}
