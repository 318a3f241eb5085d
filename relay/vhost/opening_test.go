package vhost

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"testing/iotest"
)

// clientHello is what crypto/tls says first.
func clientHello(t testing.TB, config *tls.Config) []byte {
	t.Helper()
	near, far := net.Pipe()
	config.InsecureSkipVerify = true //nolint:gosec // nobody answers
	go func() {
		_ = tls.Client(near, config).Handshake()
		near.Close()
	}()
	buf := make([]byte, maxOpening)
	n, err := far.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	if rest := int(buf[3])<<8 + int(buf[4]) + 5 - n; rest > 0 {
		if _, err := io.ReadFull(far, buf[n:n+rest]); err != nil {
			t.Fatal(err)
		}
		n += rest
	}
	far.Close()
	return buf[:n]
}

// split cuts a handshake message into records of so many bytes.
func split(hello []byte, size int) []byte {
	var out []byte
	for body := hello[5:]; len(body) > 0; {
		n := min(size, len(body))
		out = append(out, 22, 3, 1, byte(n>>8), byte(n))
		out = append(out, body[:n]...)
		body = body[n:]
	}
	return out
}

func TestOpening(t *testing.T) {
	hello := clientHello(t, &tls.Config{ServerName: "Blog.Example.com"})
	if len(hello) < 1300 {
		t.Errorf("the hello has %d bytes; one with post-quantum key shares has more", len(hello))
	}
	acme := clientHello(t, &tls.Config{ServerName: "a.example", NextProtos: []string{"acme-tls/1"}})
	for _, one := range []struct {
		name, said string
		protocol   Protocol
		host       string
		acme, bad  bool
	}{
		{name: "tls", said: string(hello), protocol: TLS, host: "blog.example.com"},
		{name: "tls in small records", said: string(split(hello, 100)), protocol: TLS, host: "blog.example.com"},
		{name: "tls and more behind", said: string(hello) + "early", protocol: TLS, host: "blog.example.com"},
		{name: "acme", said: string(acme), protocol: TLS, host: "a.example", acme: true},
		{name: "tls without a name", said: string(clientHello(t, &tls.Config{ServerName: "192.0.2.1"})), protocol: TLS},
		{name: "http", said: "GET / HTTP/1.1\r\nHost: a\r\n\r\n", protocol: HTTP},
		{name: "a method of its own", said: "M-SEARCH * HTTP/1.1\r\n", protocol: HTTP},
		{name: "ssh", said: "SSH-2.0-x\r\n", protocol: Other},
		{name: "lower case", said: "get / HTTP/1.1\r\n", protocol: Other},
		{name: "a long word", said: strings.Repeat("A", 40), protocol: Other},
		{name: "a dash first", said: "-A x", protocol: Other},
		{name: "half a hello", said: string(hello[:200]), bad: true},
		{name: "half a method", said: "GE", bad: true},
		{name: "nothing", bad: true},
		{name: "a hello too long", said: "\x16\x03\x01\x40\x00\x01\x00\xff\x00" + strings.Repeat("\x00", 1<<15), bad: true},
		{name: "many empty records", said: strings.Repeat("\x16\x03\x01\x00\x00", 5000), bad: true},
	} {
		t.Run(one.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(one.said), iotest.OneByteReader(strings.NewReader(one.said))} {
				o, err := readOpening(r)
				if (err != nil) != one.bad || err != nil && !errors.Is(err, ErrOpening) {
					t.Fatalf("error %v", err)
				}
				if err == nil && (o.Protocol != one.protocol || o.Host != one.host || o.ACME != one.acme) {
					t.Errorf("%+v", o)
				}
				if !strings.HasPrefix(one.said, string(o.Said)) || len(o.Said) > maxOpening {
					t.Errorf("what was read is not what was said: %d bytes", len(o.Said))
				}
			}
		})
	}
}

// FuzzOpening looks for input that is lost, read beyond the bound, or makes a name that is none.
func FuzzOpening(f *testing.F) {
	f.Add(clientHello(f, &tls.Config{ServerName: "blog.example.com"}))
	f.Add(split(clientHello(f, &tls.Config{ServerName: "blog.example.com"}), 50))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: blog.example.com\r\n\r\n"))
	f.Add([]byte("SSH-2.0-x\r\n"))
	f.Fuzz(func(t *testing.T, said []byte) {
		o, err := readOpening(iotest.HalfReader(bytes.NewReader(said)))
		if !bytes.HasPrefix(said, o.Said) || len(o.Said) > maxOpening {
			t.Fatalf("read %d bytes", len(o.Said))
		}
		if err == nil && len(o.Said) == 0 {
			t.Fatal("something was found in nothing")
		}
		if strings.ToLower(o.Host) != o.Host || strings.ContainsAny(o.Host, "\r\n /:*@") {
			t.Fatalf("name %q", o.Host)
		}
	})
}
