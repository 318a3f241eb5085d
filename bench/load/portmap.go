package load

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// A MapSpec is a measurement of a port-mapping server, made by one client process. Each of its askers makes a mapping and deletes
// it again, over and over.
type MapSpec struct {
	Protocol string        // "pcp", "natpmp" or "upnp"
	Server   netip.Addr    // of the gateway
	Client   netip.Addr    // own, to which mappings lead
	Askers   int           // that ask at the same time, each one request after the other
	Held     int           // mappings that are made before, and stay
	Time     time.Duration // what is measured, after a tenth of it
}

// A mapper asks for one mapping and waits for the answer. A lifetime of 0 deletes it.
type mapper interface {
	ask(port uint16, lifetime uint32) error
	close()
}

// Map reads a MapSpec from standard input, makes the measurement and writes the Result to standard output: requests by the second, of
// UPnP those that make a mapping.
func Map() error {
	var s MapSpec
	if err := json.NewDecoder(os.Stdin).Decode(&s); err != nil {
		return fmt.Errorf("spec of the mappings: %w", err)
	}
	newMapper := map[string]func(MapSpec) (mapper, error){"pcp": newPCP, "natpmp": newPMP, "upnp": newIGD}[s.Protocol]
	if newMapper == nil || s.Askers < 1 {
		return fmt.Errorf("spec of the mappings: no protocol %q, or nobody asks", s.Protocol)
	}
	askers := make([]mapper, s.Askers)
	for i := range askers {
		m, err := newMapper(s)
		if err != nil {
			return err
		}
		defer m.close()
		askers[i] = m
	}
	if err := s.hold(askers); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(s.measure(askers))
}

// firstMapped is the first port of those that stay; those that come and go are below.
const firstMapped = 20_000

// hold makes the mappings that stay, unless they are there already: a server keeps them from one measurement to the next.
func (s MapSpec) hold(askers []mapper) error {
	askers = askers[:min(len(askers), 4)] // a slow server with many at once has lost some by the time that they ask again
	errs := make([]error, len(askers))
	var wg sync.WaitGroup
	for i, m := range askers {
		wg.Go(func() {
			for n := i; n < s.Held && errs[i] == nil; n += len(askers) {
				errs[i] = m.ask(uint16(firstMapped+n), 7200)
			}
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%d mappings cannot be made: %w", s.Held, err)
	}
	return nil
}

func (s MapSpec) measure(askers []mapper) Result {
	from := time.Now().Add(s.Time / 10)
	by := from.Add(s.Time)
	results := make([]Result, len(askers))
	times := make([]histogram, len(askers))
	var wg sync.WaitGroup
	for i, m := range askers {
		wg.Go(func() {
			r := &results[i]
			for n := 0; time.Now().Before(by); n++ {
				port := uint16(2000 + i*100 + n%100)
				for _, lifetime := range []uint32{7200, 0} {
					began := time.Now()
					err := m.ask(port, lifetime)
					ended := time.Now()
					switch {
					case err != nil:
						r.Errors++
						r.Error = err.Error()
					case ended.After(from) && ended.Before(by) && (lifetime > 0 || s.Protocol != "upnp"):
						r.Count++
						times[i].add(ended.Sub(began))
					}
				}
			}
		})
	}
	wg.Wait()
	all := Result{Seconds: s.Time.Seconds()}
	var spread histogram
	for i, r := range results {
		all.Count += r.Count
		all.Errors += r.Errors
		all.Error = cmp.Or(all.Error, r.Error)
		spread.merge(&times[i])
	}
	all.P50, all.P99 = spread.quantile(0.5), spread.quantile(0.99)
	return all
}

// A datagramMapper asks over UDP, and again when no answer comes.
type datagramMapper struct {
	conn    *net.UDPConn
	request func(port uint16, lifetime uint32) []byte
	check   func(answer []byte, port uint16) error // errStale: it answers another request
	buf     [1500]byte
}

var errStale = errors.New("the answer is to another request")

func dialMapper(s MapSpec) (*net.UDPConn, error) {
	return net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(s.Server, 5351)))
}

func (m *datagramMapper) close() { _ = m.conn.Close() }

func (m *datagramMapper) ask(port uint16, lifetime uint32) error {
	for range 5 {
		if _, err := m.conn.Write(m.request(port, lifetime)); err != nil {
			return err
		}
		if err := m.conn.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
			return err
		}
		for {
			n, err := m.conn.Read(m.buf[:])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				return err
			}
			if err = m.check(m.buf[:n], port); !errors.Is(err, errStale) {
				return err
			}
		}
	}
	return errors.New("no answer in 5 s")
}

// newPCP speaks RFC 6887, section 11: a MAP request is 60 bytes.
func newPCP(s MapSpec) (mapper, error) {
	conn, err := dialMapper(s)
	if err != nil {
		return nil, err
	}
	client := s.Client.As16()
	return &datagramMapper{
		conn: conn,
		request: func(port uint16, lifetime uint32) []byte {
			b := make([]byte, 60)
			b[0], b[1] = 2, 1
			binary.BigEndian.PutUint32(b[4:], lifetime)
			copy(b[8:], client[:])
			copy(b[24:36], "bench bench.")
			b[36] = 17
			binary.BigEndian.PutUint16(b[40:], port)
			if lifetime > 0 {
				binary.BigEndian.PutUint16(b[42:], port)
			}
			b[54], b[55] = 0xff, 0xff // any IPv4 address
			return b
		},
		check: func(b []byte, port uint16) error {
			switch {
			case len(b) < 60 || b[1] != 0x81 || binary.BigEndian.Uint16(b[40:]) != port:
				return errStale
			case b[3] != 0:
				return fmt.Errorf("PCP result %d", b[3])
			}
			return nil
		},
	}, nil
}

// newPMP speaks RFC 6886, section 3.3.
func newPMP(s MapSpec) (mapper, error) {
	conn, err := dialMapper(s)
	if err != nil {
		return nil, err
	}
	return &datagramMapper{
		conn: conn,
		request: func(port uint16, lifetime uint32) []byte {
			b := make([]byte, 12)
			b[1] = 1
			binary.BigEndian.PutUint16(b[4:], port)
			if lifetime > 0 {
				binary.BigEndian.PutUint16(b[6:], port)
			}
			binary.BigEndian.PutUint32(b[8:], lifetime)
			return b
		},
		check: func(b []byte, port uint16) error {
			switch {
			case len(b) < 16 || b[1] != 129 || binary.BigEndian.Uint16(b[8:]) != port:
				return errStale
			case binary.BigEndian.Uint16(b[2:]) != 0:
				return fmt.Errorf("NAT-PMP result %d", binary.BigEndian.Uint16(b[2:]))
			}
			return nil
		},
	}, nil
}

// An igd is a UPnP gateway's WANIPConnection.
type igd struct {
	http    *http.Client
	control string
	client  netip.Addr
}

const wanService = "urn:schemas-upnp-org:service:WANIPConnection:1"

// newIGD finds the gateway by SSDP and its service in the description.
func newIGD(s MapSpec) (mapper, error) {
	location, err := discover(s.Server)
	if err != nil {
		return nil, err
	}
	d := &igd{http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}, client: s.Client}
	text, err := d.get(location)
	if err != nil {
		return nil, err
	}
	_, text, found := strings.Cut(text, "<serviceType>"+wanService+"</serviceType>")
	path := regexp.MustCompile(`<controlURL>([^<]*)</controlURL>`).FindStringSubmatch(text)
	if !found || path == nil {
		return nil, errors.New("the gateway's description has no WANIPConnection:1")
	}
	base, err := url.Parse(location)
	if err != nil {
		return nil, err
	}
	control, err := base.Parse(path[1])
	if err != nil {
		return nil, err
	}
	d.control = control.String()
	return d, nil
}

func discover(server netip.Addr) (location string, err error) {
	conn, err := net.ListenUDP("udp4", nil)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	search := "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: " + wanService + "\r\n\r\n"
	buf := make([]byte, 2048)
	for range 5 {
		if _, err := conn.WriteToUDPAddrPort([]byte(search), netip.AddrPortFrom(server, 1900)); err != nil {
			return "", err
		}
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		n, err := conn.Read(buf)
		if err != nil {
			continue
		}
		if at := regexp.MustCompile(`(?i)\r\nlocation:\s*(\S+)`).FindSubmatch(buf[:n]); at != nil {
			return string(at[1]), nil
		}
	}
	return "", errors.New("no gateway answers by SSDP")
}

func (d *igd) get(from string) (string, error) {
	resp, err := d.http.Get(from)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	return string(text), err
}

func (d *igd) close() { d.http.CloseIdleConnections() }

func (d *igd) ask(port uint16, lifetime uint32) error {
	action, args := "DeletePortMapping", fmt.Sprintf("<NewRemoteHost></NewRemoteHost><NewExternalPort>%d</NewExternalPort><NewProtocol>UDP</NewProtocol>", port)
	if lifetime > 0 {
		action = "AddPortMapping"
		args += fmt.Sprintf("<NewInternalPort>%d</NewInternalPort><NewInternalClient>%s</NewInternalClient><NewEnabled>1</NewEnabled>"+
			"<NewPortMappingDescription>bench</NewPortMappingDescription><NewLeaseDuration>%d</NewLeaseDuration>", port, d.client, lifetime)
	}
	body := fmt.Sprintf(`<?xml version="1.0"?><s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" `+
		`s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:%s xmlns:u="%s">%s</u:%[1]s></s:Body></s:Envelope>`, action, wanService, args)
	req, err := http.NewRequestWithContext(context.Background(), http.MethodPost, d.control, bytes.NewReader([]byte(body)))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", `text/xml; charset="utf-8"`)
	req.Header.Set("SOAPAction", `"`+wanService+"#"+action+`"`)
	resp, err := d.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, 1<<16))
	if err == nil && resp.StatusCode != http.StatusOK {
		code := regexp.MustCompile(`<errorCode>(\d+)`).FindSubmatch(text)
		err = fmt.Errorf("%s: %s, UPnP error %s", action, resp.Status, code)
	}
	return err
}
