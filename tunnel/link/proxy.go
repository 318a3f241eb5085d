package link

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"
)

// A ProxyError is that a proxy refused.
type ProxyError struct {
	Proxy string // host:port
	Text  string
	Login bool // it wants a user name and a password, or others
}

func (e *ProxyError) Error() string { return fmt.Sprintf("proxy %s: %s", e.Proxy, e.Text) }

// A proxy is a way to the hub by way of somebody.
type proxy struct {
	kind     string // "http", "https" or "socks5"
	addr     string // host:port
	user     string
	password string
	login    bool
}

// parseProxy reads the URL of a proxy: http://, https:// or socks5://, with a user name and a password if the proxy wants that.
func parseProxy(text string) (*proxy, error) {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	if err != nil {
		return nil, errors.New("that is no URL of a proxy") // the error would show the password
	}
	p := &proxy{kind: u.Scheme}
	port := ""
	switch u.Scheme {
	case "http":
		port = "80"
	case "https":
		port = "443"
	case "socks5", "socks5h", "socks":
		p.kind, port = "socks5", "1080"
	default:
		return nil, fmt.Errorf("a proxy is http://, https:// or socks5://, and not %s://", u.Scheme)
	}
	if u.Hostname() == "" {
		return nil, errors.New("the URL of the proxy names no host")
	}
	if u.Port() != "" {
		port = u.Port()
	}
	p.addr = net.JoinHostPort(u.Hostname(), port)
	if u.User != nil {
		p.user = u.User.Username()
		p.password, _ = u.User.Password()
		p.login = true
	}
	if p.kind == "socks5" && (len(p.user) > 255 || len(p.password) > 255) {
		return nil, errors.New("a user name or a password for SOCKS has 255 bytes at most (RFC 1929)")
	}
	return p, nil
}

// environment is the proxy that the environment names for an address, as curl and others take it: HTTPS_PROXY or ALL_PROXY, in either case,
// unless NO_PROXY says otherwise. nil is none.
func environment(getenv func(string) string, addr string) (*proxy, error) {
	first := func(names ...string) string {
		for _, n := range names {
			if v := getenv(n); v != "" {
				return v
			}
		}
		return ""
	}
	c := httpproxy.Config{
		HTTPSProxy: first("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
		NoProxy:    first("NO_PROXY", "no_proxy"),
	}
	if c.HTTPSProxy == "" {
		return nil, nil
	}
	u, err := c.ProxyFunc()(&url.URL{Scheme: "https", Host: addr})
	if err != nil {
		return nil, errors.New("HTTPS_PROXY or ALL_PROXY is no URL of a proxy")
	}
	if u == nil {
		return nil, nil
	}
	return parseProxy(u.String())
}

// dial connects to addr by way of the proxy. tcp is the socket that is beneath.
func (p *proxy) dial(ctx context.Context, dialTCP func(context.Context, string) (net.Conn, error), addr string) (c net.Conn, tcp *net.TCPConn, err error) {
	return p.talkTo(ctx, dialTCP, func(c net.Conn) error {
		if p.kind == "socks5" {
			return p.socks(c, addr)
		}
		return p.connect(c, addr)
	})
}

// talkTo connects to the proxy and asks for something.
func (p *proxy) talkTo(ctx context.Context, dialTCP func(context.Context, string) (net.Conn, error), ask func(net.Conn) error) (c net.Conn, tcp *net.TCPConn, err error) {
	c, err = dialTCP(ctx, p.addr)
	if err != nil {
		return nil, nil, fmt.Errorf("proxy %s: %w", p.addr, err)
	}
	tcp, _ = c.(*net.TCPConn)
	if p.kind == "https" {
		host, _, _ := net.SplitHostPort(p.addr)
		c = tls.Client(c, &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12})
	}
	asked := c // which the function sees as it is, whatever is returned
	stop := context.AfterFunc(ctx, func() { _ = asked.SetDeadline(time.Unix(1, 0)) })
	err = ask(c)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		var refused *ProxyError
		if !errors.As(err, &refused) {
			err = fmt.Errorf("proxy %s: %w", p.addr, err)
		}
		return nil, nil, err
	}
	return c, tcp, nil
}

// maxAnswer is how long a proxy's answer may be.
const maxAnswer = 16 << 10

// connect asks an HTTP proxy (RFC 9110, section 9.3.6).
func (p *proxy) connect(c net.Conn, addr string) error {
	ask := "CONNECT " + addr + " HTTP/1.1\r\nHost: " + addr + "\r\n"
	if p.login {
		ask += "Proxy-Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte(p.user+":"+p.password)) + "\r\n"
	}
	if _, err := io.WriteString(c, ask+"\r\n"); err != nil {
		return err
	}
	status, err := readAnswer(c)
	switch {
	case err != nil:
		return err
	case status/100 == 2:
		return nil
	}
	text := fmt.Sprintf("it answers CONNECT %s with %d %s", addr, status, http.StatusText(status))
	login := status == http.StatusProxyAuthRequired
	if login {
		text = "it wants a user name and a password: http://USER:PASSWORD@HOST:PORT"
		if p.login {
			text = "it does not take this user name and password (basic authentication)"
		}
	}
	return &ProxyError{p.addr, text, login}
}

// readAnswer reads the head of an answer, and not a byte more: what follows is the hub's.
func readAnswer(r io.Reader) (status int, err error) {
	var head []byte
	for b := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")) && !bytes.HasSuffix(head, []byte("\n\n")); {
		if len(head) >= maxAnswer {
			return 0, errors.New("its answer is too long")
		}
		if _, err := io.ReadFull(r, b); err != nil {
			return 0, err
		}
		head = append(head, b[0])
	}
	resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head)), &http.Request{Method: http.MethodConnect})
	if err != nil {
		return 0, errors.New("what it answers is no HTTP")
	}
	resp.Body.Close()
	return resp.StatusCode, nil
}

// The words of SOCKS (RFC 1928; RFC 1929 for the login).
const (
	socksVersion   = 5
	socksNoLogin   = 0
	socksPassword  = 2
	socksConnect   = 1
	socksAssociate = 3
	socksIPv4      = 1
	socksName      = 3
	socksIPv6      = 4
)

// socks asks a SOCKS proxy to connect.
func (p *proxy) socks(c net.Conn, addr string) error {
	if err := p.socksLogin(c); err != nil {
		return err
	}
	_, err := p.socksAsk(c, socksConnect, addr)
	return err
}

func (p *proxy) socksLogin(c net.Conn) error {
	offer := []byte{socksVersion, 1, socksNoLogin}
	if p.login {
		offer = []byte{socksVersion, 2, socksNoLogin, socksPassword}
	}
	var answer [2]byte
	if err := talk(c, offer, answer[:]); err != nil {
		return err
	}
	switch {
	case answer[0] != socksVersion:
		return &ProxyError{p.addr, "it does not speak SOCKS 5", false}
	case answer[1] == socksNoLogin:
		return nil
	case answer[1] == socksPassword && p.login:
	default:
		return &ProxyError{p.addr, "it wants a user name and a password: socks5://USER:PASSWORD@HOST:PORT", true}
	}
	login := append([]byte{1, byte(len(p.user))}, p.user...)
	login = append(append(login, byte(len(p.password))), p.password...)
	if err := talk(c, login, answer[:]); err != nil {
		return err
	}
	if answer[1] != 0 {
		return &ProxyError{p.addr, "it does not take this user name and password", true}
	}
	return nil
}

// socksAsk makes a request, and returns the address in the answer; zero if that is a name.
func (p *proxy) socksAsk(c net.Conn, what byte, addr string) (netip.AddrPort, error) {
	ask, err := appendSocksAddr([]byte{socksVersion, what, 0}, addr)
	if err != nil {
		return netip.AddrPort{}, err
	}
	var answer [3]byte
	if err := talk(c, ask, answer[:]); err != nil {
		return netip.AddrPort{}, err
	}
	if answer[0] != socksVersion {
		return netip.AddrPort{}, &ProxyError{p.addr, "it does not speak SOCKS 5", false}
	}
	if answer[1] != 0 {
		return netip.AddrPort{}, &ProxyError{p.addr, socksRefusal(answer[1]), false}
	}
	return readSocksAddr(c)
}

func talk(c net.Conn, say, answer []byte) error {
	if _, err := c.Write(say); err != nil {
		return err
	}
	_, err := io.ReadFull(c, answer)
	return err
}

// appendSocksAddr adds an address as SOCKS writes it (RFC 1928, section 5).
func appendSocksAddr(b []byte, addr string) ([]byte, error) {
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("%q is no port", portText)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		ip = ip.Unmap().WithZone("")
		kind := byte(socksIPv4)
		if ip.Is6() {
			kind = socksIPv6
		}
		b = append(append(b, kind), ip.AsSlice()...)
	} else {
		if len(host) > 255 {
			return nil, errors.New("the hub's name is longer than SOCKS can say")
		}
		b = append(append(b, socksName, byte(len(host))), host...)
	}
	return append(b, byte(port>>8), byte(port)), nil
}

// readSocksAddr reads such an address.
func readSocksAddr(r io.Reader) (netip.AddrPort, error) {
	var b [1 + 255 + 2]byte
	if _, err := io.ReadFull(r, b[:1]); err != nil {
		return netip.AddrPort{}, err
	}
	n := 0
	switch b[0] {
	case socksIPv4:
		n = 4
	case socksIPv6:
		n = 16
	case socksName:
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			return netip.AddrPort{}, err
		}
		_, err := io.ReadFull(r, b[:int(b[0])+2])
		return netip.AddrPort{}, err
	default:
		return netip.AddrPort{}, fmt.Errorf("its answer has an address of a kind (%d) that is unknown", b[0])
	}
	if _, err := io.ReadFull(r, b[:n+2]); err != nil {
		return netip.AddrPort{}, err
	}
	ip, _ := netip.AddrFromSlice(b[:n])
	return netip.AddrPortFrom(ip.Unmap(), uint16(b[n])<<8|uint16(b[n+1])), nil
}

// socksRefusal says what a reply means (RFC 1928, section 6).
func socksRefusal(code byte) string {
	texts := []string{"", "it failed", "its rules do not permit that", "the network cannot be reached from it", "the hub cannot be reached from it",
		"the hub's port is closed", "it took too long", "it cannot do that", "it does not know that kind of address"}
	if int(code) < len(texts) {
		return texts[code]
	}
	return fmt.Sprintf("it refuses (%d)", code)
}
