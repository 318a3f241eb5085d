// Package neighbours says what is known of the hosts of the LAN: their hardware addresses, from the kernel's neighbour table, and
// their names, from the files in which DHCP servers keep their leases. It is told to the operator, and policies go by it; nobody is
// asked over the network, least of all the host itself. What other programs do with this does not come in here.
package neighbours

import (
	"io"
	"net/netip"
	"os"
	"sync"
	"time"
)

const (
	tableFor   = 2 * time.Second       // how long what the neighbour table said is believed
	missingFor = 50 * time.Millisecond // the same, of an address that was not in it
	filesFor   = 5 * time.Second       // how long files are not looked at again
	maxFile    = 4 << 20               // bytes that are read of one
)

// A Source reads the neighbour table.
type Source func(add func(addr netip.Addr, mac string)) error

// Options is what Hosts are read from.
type Options struct {
	Table Source // nil: the kernel's, where there is one that can be read
	Files []File // nil: DefaultFiles
}

// A File is one of a DHCP server, and how it is read.
type File struct {
	Path  string
	Parse func(text string, add func(addr netip.Addr, mac, name string))
}

// DefaultFiles is where DHCP servers keep their leases.
func DefaultFiles() []File {
	return []File{
		{"/var/lib/misc/dnsmasq.leases", ParseDnsmasq},    // dnsmasq of Debian
		{"/var/lib/dnsmasq/dnsmasq.leases", ParseDnsmasq}, // of Fedora and others
		{"/tmp/dhcp.leases", ParseDnsmasq},                // of OpenWrt
		{"/tmp/hosts/odhcpd", ParseHosts},                 // odhcpd
		{"/var/lib/dhcp/dhcpd.leases", ParseISC},
		{"/var/lib/dhcp/dhcpd6.leases", ParseISC},
		{"/var/lib/kea/kea-leases4.csv", ParseKea},
		{"/var/lib/kea/kea-leases6.csv", ParseKea},
	}
}

// Hosts is what is known, read when it is asked for and too old. Lookup may be called from anywhere.
type Hosts struct {
	table Source
	files []File

	mu      sync.Mutex
	macs    map[netip.Addr]string
	read    time.Time // the table
	looked  time.Time // at the files
	stamps  map[string]stamp
	names   map[string]names // by path
	nothing error            // why the table could not be read
}

// A stamp tells whether a file is another.
type stamp struct {
	time time.Time
	size int64
}

// names are what one file says.
type names struct {
	byAddr map[netip.Addr]string
	byMAC  map[string]string
}

// New returns Hosts of which nothing is known yet.
func New(o Options) *Hosts {
	h := &Hosts{table: o.Table, files: o.Files, stamps: map[string]stamp{}, names: map[string]names{}}
	if h.table == nil {
		h.table = system
	}
	if h.files == nil {
		h.files = DefaultFiles()
	}
	return h
}

// Lookup is the hardware address of a host, as net.HardwareAddr writes it, and its name; "" is not known.
func (h *Hosts) Lookup(addr netip.Addr) (mac, hostname string) {
	addr = addr.Unmap().WithZone("")
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	age := now.Sub(h.read)
	mac, known := h.macs[addr]
	if h.read.IsZero() || age >= tableFor || !known && age >= missingFor {
		h.readTable(now)
		mac = h.macs[addr]
	}
	if h.looked.IsZero() || now.Sub(h.looked) >= filesFor {
		h.readFiles(now)
	}
	for _, f := range h.files {
		if name := h.names[f.Path].byAddr[addr]; name != "" {
			return mac, name
		}
	}
	for _, f := range h.files {
		if name := h.names[f.Path].byMAC[mac]; name != "" && mac != "" {
			return mac, name
		}
	}
	return mac, ""
}

// Err is why the neighbour table could not be read, the last time; nil: it could.
func (h *Hosts) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.nothing
}

// readTable reads the neighbour table. What cannot be read is not known: an old answer might be another host's by now.
func (h *Hosts) readTable(now time.Time) {
	macs := make(map[netip.Addr]string, len(h.macs))
	h.nothing = h.table(func(addr netip.Addr, mac string) { macs[addr.Unmap().WithZone("")] = mac })
	h.macs, h.read = macs, now
}

func (h *Hosts) readFiles(now time.Time) {
	h.looked = now
	for _, f := range h.files {
		info, err := os.Stat(f.Path)
		if err != nil || !info.Mode().IsRegular() {
			delete(h.stamps, f.Path)
			delete(h.names, f.Path)
			continue
		}
		if s := (stamp{info.ModTime(), info.Size()}); h.stamps[f.Path] != s {
			h.stamps[f.Path] = s
			h.names[f.Path] = readNames(f)
		}
	}
}

func readNames(f File) names {
	n := names{map[netip.Addr]string{}, map[string]string{}}
	file, err := os.Open(f.Path)
	if err != nil {
		return n
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile))
	if err != nil {
		return n
	}
	f.Parse(string(text), func(addr netip.Addr, mac, name string) {
		n.byAddr[addr] = name
		if mac != "" {
			n.byMAC[mac] = name
		}
	})
	return n
}
