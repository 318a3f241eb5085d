package sshwire

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
)

// startGeneral is a server of x/crypto/ssh that forwards.
func startGeneral(t *testing.T, change func(*ssh.ServerConfig)) (port string) {
	t.Helper()
	config := &ssh.ServerConfig{PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil }}
	config.AddHostKey(newTestKey(t))
	if change != nil {
		change(config)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go serveGeneral(c, config)
		}
	}()
	_, port, _ = net.SplitHostPort(l.Addr().String())
	return port
}

func serveGeneral(conn net.Conn, config *ssh.ServerConfig) {
	defer conn.Close()
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for nc := range channels {
		go func() {
			r := reader{b: nc.ExtraData()}
			host, port := r.string(), r.u32()
			target, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.ParseIP(host), Port: int(port)})
			if err != nil {
				_ = nc.Reject(ssh.ConnectionFailed, err.Error())
				return
			}
			defer target.Close()
			ch, reqs, err := nc.Accept()
			if err != nil {
				return
			}
			go ssh.DiscardRequests(reqs)
			done := make(chan struct{})
			go func() {
				_, _ = io.Copy(struct{ io.Writer }{target}, ch)
				_ = target.CloseWrite()
				close(done)
			}()
			_, _ = io.Copy(ch, struct{ io.Reader }{target})
			_ = ch.CloseWrite()
			<-done
			_ = ch.Close()
		}()
	}
}

func TestClientOfGeneralServer(t *testing.T) {
	noLeaks(t)
	echo := startEcho(t)
	for _, kex := range []string{KexMLKEM768X25519, KexCurve25519} {
		for _, cipher := range []string{CipherAES128GCM, CipherAES256GCM} {
			t.Run(kex+" "+cipher, func(t *testing.T) {
				port := startGeneral(t, func(c *ssh.ServerConfig) {
					c.KeyExchanges, c.Ciphers, c.RekeyThreshold = []string{kex}, []string{cipher}, 1<<20
				})
				c := startClient(t, port, clientConfig(newTestKey(t)), Options{RekeyBytes: 3 << 20})
				manyEchoes(t, forwardLocal(t, c, echo, CarryOptions{}))
			})
		}
	}
}

func TestServerOfGeneralClient(t *testing.T) {
	noLeaks(t)
	echo := startEcho(t)
	port, _ := startServer(t, serverConfig(newTestKey(t)), Options{Channel: acceptDirect})
	for _, kex := range []string{KexMLKEM768X25519, KexCurve25519} {
		t.Run(kex, func(t *testing.T) {
			config := &ssh.ClientConfig{User: "me", Auth: []ssh.AuthMethod{ssh.PublicKeys(newTestKey(t))}, HostKeyCallback: ssh.InsecureIgnoreHostKey()}
			config.KeyExchanges, config.RekeyThreshold = []string{kex}, 1<<20
			client, err := ssh.Dial("tcp", "127.0.0.1:"+port, config)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			for _, size := range sizes {
				conn, err := client.Dial("tcp", echo)
				if err != nil {
					t.Fatal(err)
				}
				if err := exchangeBytes(t, conn, size); err != nil {
					t.Errorf("%d bytes: %v", size, err)
				}
			}
		})
	}
}

// TestFallback gives clients that speak nothing of ours to x/crypto, on the same connection.
func TestFallback(t *testing.T) {
	noLeaks(t)
	host, echo := newTestKey(t), startEcho(t)
	general := &ssh.ServerConfig{
		ServerVersion:     DefaultVersion,
		PublicKeyCallback: func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, nil },
	}
	general.AddHostKey(host)
	for name, set := range map[string]func(*ssh.ClientConfig){
		"cipher": func(c *ssh.ClientConfig) { c.Ciphers = []string{ssh.CipherChaCha20Poly1305} },
		"kex":    func(c *ssh.ClientConfig) { c.KeyExchanges = []string{ssh.KeyExchangeECDHP256} },
	} {
		t.Run(name, func(t *testing.T) {
			l, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				tcp, err := l.Accept()
				if err != nil {
					return
				}
				_, err = Server(tcp.(*net.TCPConn), serverConfig(host))
				var other *UnsupportedError
				if !errors.As(err, &other) || !errors.Is(err, ErrUnsupported) || other.Conn == nil {
					t.Errorf("no way back: %v", err)
					tcp.Close()
					return
				}
				serveGeneral(other.Conn, general)
			}()
			config := &ssh.ClientConfig{User: "me", Auth: []ssh.AuthMethod{ssh.PublicKeys(newTestKey(t))}, HostKeyCallback: ssh.FixedHostKey(host.PublicKey())}
			set(config)
			client, err := ssh.Dial("tcp", l.Addr().String(), config)
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			conn, err := client.Dial("tcp", echo)
			if err != nil {
				t.Fatal(err)
			}
			if err := exchangeBytes(t, conn, 100_000); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestClientUnsupported(t *testing.T) {
	noLeaks(t)
	for name, set := range map[string]func(*ssh.ServerConfig){
		"cipher": func(c *ssh.ServerConfig) { c.Ciphers = []string{ssh.CipherChaCha20Poly1305} },
		"kex":    func(c *ssh.ServerConfig) { c.KeyExchanges = []string{ssh.KeyExchangeECDHP256} },
		"password": func(c *ssh.ServerConfig) {
			c.PublicKeyCallback = nil
			c.PasswordCallback = func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil }
		},
		"key and password": func(c *ssh.ServerConfig) {
			c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) {
				return nil, &ssh.PartialSuccessError{Next: ssh.ServerAuthCallbacks{
					PasswordCallback: func(ssh.ConnMetadata, []byte) (*ssh.Permissions, error) { return nil, nil },
				}}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dialTCP(t, startGeneral(t, set))
			defer conn.Close()
			if _, err := Client(conn, clientConfig(newTestKey(t))); !errors.Is(err, ErrUnsupported) {
				t.Error(err)
			}
		})
	}
	conn := dialTCP(t, startGeneral(t, func(c *ssh.ServerConfig) {
		c.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("no") }
	}))
	defer conn.Close()
	var refused *AuthError
	if _, err := Client(conn, clientConfig(newTestKey(t), newTestKey(t))); !errors.As(err, &refused) || errors.Is(err, ErrUnsupported) || refused.Tried != 2 {
		t.Error(err)
	}
}

// keysOfAllKinds are signers with every algorithm.
func keysOfAllKinds(t *testing.T) map[string]ssh.Signer {
	t.Helper()
	list := map[string]ssh.Signer{"ed25519": newTestKey(t).Signer}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	list["rsa"] = writeTestKey(t, rsaKey).Signer
	for name, curve := range map[string]elliptic.Curve{"p256": elliptic.P256(), "p384": elliptic.P384(), "p521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		list[name] = writeTestKey(t, key).Signer
	}
	return list
}

// certify makes a certificate of a key.
func certify(t *testing.T, ca, key ssh.Signer, kind uint32, principal string) ssh.Signer {
	t.Helper()
	cert := &ssh.Certificate{
		Key: key.PublicKey(), CertType: kind, KeyId: "a test", ValidPrincipals: []string{principal},
		ValidBefore: uint64(time.Now().Add(time.Hour).Unix()),
	}
	if err := cert.SignCert(rand.Reader, ca); err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewCertSigner(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestKeys has every kind of key, and a certificate of each, log in and be the host's, here and with x/crypto at either end.
func TestKeys(t *testing.T) {
	noLeaks(t)
	ca := newTestKey(t)
	for name, plain := range keysOfAllKinds(t) {
		for _, withCert := range []bool{false, true} {
			userKey, hostKey := plain, plain
			if withCert {
				name += " certificate"
				userKey, hostKey = certify(t, ca, plain, ssh.UserCert, "me"), certify(t, ca, plain, ssh.HostCert, "127.0.0.1")
			}
			t.Run(name, func(t *testing.T) {
				config := serverConfig(hostKey)
				config.PublicKeyCallback = func(_ ssh.ConnMetadata, k ssh.PublicKey) (*ssh.Permissions, error) {
					if string(k.Marshal()) != string(userKey.PublicKey().Marshal()) {
						return nil, errors.New("unknown")
					}
					return &ssh.Permissions{Extensions: map[string]string{"a": "b"}}, nil
				}
				port, conns := startServer(t, config, Options{})
				client := clientConfig(newTestKey(t), userKey) // the first is refused
				client.HostKeyCallback = ssh.FixedHostKey(hostKey.PublicKey())
				startClient(t, port, client, Options{})
				if c := <-conns; c.Permissions().Extensions["a"] != "b" {
					t.Error("the permissions are lost")
				}
				general, err := ssh.Dial("tcp", "127.0.0.1:"+port, &ssh.ClientConfig{
					User: me(), Auth: []ssh.AuthMethod{ssh.PublicKeys(userKey)}, HostKeyCallback: client.HostKeyCallback,
				})
				if err != nil {
					t.Fatal(err)
				}
				general.Close()
				port = startGeneral(t, func(c *ssh.ServerConfig) {
					c.PublicKeyCallback = config.PublicKeyCallback
					c.AddHostKey(hostKey)
				})
				client.HostKeyAlgorithms = algorithmsOf(hostKey.PublicKey().Type())
				startClient(t, port, client, Options{})
			})
		}
	}
}

func TestServerRefuses(t *testing.T) {
	noLeaks(t)
	config := serverConfig(newTestKey(t))
	config.MaxAuthTries = 2
	var methods []string
	config.Tried = func(_ ssh.ConnMetadata, method string, err error) { methods = append(methods, method) }
	config.PublicKeyCallback = func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error) { return nil, errors.New("unknown") }
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ended := make(chan error)
	go func() {
		tcp, err := l.Accept()
		if err == nil {
			_, err = Server(tcp.(*net.TCPConn), config)
			tcp.Close()
		}
		ended <- err
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conn := dialTCP(t, port)
	defer conn.Close()
	_, err = Client(conn, clientConfig(newTestKey(t), newTestKey(t), newTestKey(t)))
	var said *DisconnectError
	if !errors.As(err, &said) || said.Reason != reasonNoMoreMethods {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, errNoTries) {
		t.Error(err)
	}
	if got := strings.Join(methods, " "); got != "publickey publickey" {
		t.Error(got)
	}
}

// TestClientThatWaits says nothing after its version, until it has seen the server's KEXINIT.
func TestClientThatWaits(t *testing.T) {
	noLeaks(t)
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	conn := dialTCP(t, port)
	defer conn.Close()
	if _, err := conn.Write([]byte("SSH-2.0-scanner\r\n")); err != nil {
		t.Fatal(err)
	}
	tcp, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	_, err = Server(tcp.(*net.TCPConn), serverConfig(newTestKey(t)))
	var other *UnsupportedError
	if !errors.As(err, &other) || other.Conn == nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	if n, err := other.Conn.Read(got); err != nil || string(got[:n]) != "SSH-2.0-scanner\r\n" {
		t.Errorf("%q, %v", got[:n], err)
	}
	if _, err := other.Conn.Write([]byte(DefaultVersion + "\r\nmore")); err != nil {
		t.Error(err)
	}
	if n, err := io.ReadAtLeast(conn, got, len(DefaultVersion)+6); err != nil || string(got[:n]) != DefaultVersion+"\r\nmore" {
		t.Errorf("%q, %v", got[:n], err)
	}
	if _, err := newReplayed(tcp, nil, "SSH-2.0-a").Write([]byte("SSH-2.0-b\r\n")); !errors.Is(err, errOtherVersion) {
		t.Error(err)
	}
}
