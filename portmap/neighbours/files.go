package neighbours

import (
	"encoding/csv"
	"net"
	"net/netip"
	"strings"
)

// maxName is the longest name of a host, in bytes (RFC 1035, section 2.3.4).
const maxName = 253

// yield hands on what a line says if it is what it should be: an address, and a name of printable ASCII. Names are the hosts' own,
// and so is what they put there.
func yield(add func(netip.Addr, string, string), addr, mac, name string) {
	a, err := netip.ParseAddr(addr)
	name = strings.TrimSuffix(name, ".")
	if err != nil || a.Zone() != "" || name == "" || name == "*" || len(name) > maxName {
		return
	}
	for _, c := range []byte(name) {
		if c <= ' ' || c > '~' {
			return
		}
	}
	hw, err := net.ParseMAC(mac)
	if mac = ""; err == nil && len(hw) == 6 {
		mac = hw.String()
	}
	add(a.Unmap(), mac, name)
}

// ParseDnsmasq reads the file of dnsmasq(8): "EXPIRY MAC ADDRESS NAME CLIENT-ID", and for IPv6 the same with an IAID for the MAC.
func ParseDnsmasq(text string, add func(addr netip.Addr, mac, name string)) {
	for line := range strings.Lines(text) {
		if w := strings.Fields(line); len(w) >= 4 {
			_, mac, tagged := strings.Cut(w[1], "-") // the kind of hardware, when it is no Ethernet
			if !tagged {
				mac = w[1]
			}
			yield(add, w[2], mac, w[3])
		}
	}
}

// ParseHosts reads what hosts(5) is written like: "ADDRESS NAME…".
func ParseHosts(text string, add func(addr netip.Addr, mac, name string)) {
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		if w := strings.Fields(line); len(w) >= 2 {
			yield(add, w[0], "", w[len(w)-1]) // the name alone comes last
		}
	}
}

// ParseISC reads dhcpd.leases(5). A later lease of an address takes the place of an earlier one.
func ParseISC(text string, add func(addr netip.Addr, mac, name string)) {
	var addr, mac, name string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		w := strings.Fields(strings.TrimSuffix(line, ";"))
		switch {
		case len(w) >= 3 && (w[0] == "lease" || w[0] == "iaaddr") && w[2] == "{":
			addr, mac, name = w[1], "", ""
		case len(w) == 3 && w[0] == "hardware" && w[1] == "ethernet":
			mac = w[2]
		case len(w) == 2 && w[0] == "client-hostname":
			name = strings.Trim(w[1], `"`)
		case line == "}":
			yield(add, addr, mac, name)
			addr = ""
		}
	}
}

// ParseKea reads the CSV files of Kea's memfile backend. Of several lines for an address the last one holds.
func ParseKea(text string, add func(addr netip.Addr, mac, name string)) {
	in := csv.NewReader(strings.NewReader(text))
	in.FieldsPerRecord, in.LazyQuotes, in.ReuseRecord = -1, true, true
	columns := map[string]int{}
	at := func(row []string, column string) string {
		if i, ok := columns[column]; ok && i < len(row) {
			return row[i]
		}
		return ""
	}
	for {
		row, err := in.Read()
		if err != nil {
			return
		}
		if len(columns) == 0 {
			for i, name := range row {
				columns[name] = i
			}
			continue
		}
		yield(add, at(row, "address"), at(row, "hwaddr"), at(row, "hostname"))
	}
}
