package sshwire

import (
	"errors"
	"net"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
)

// A ClientConfig says how to log in.
type ClientConfig struct {
	Algorithms
	User              string
	Signers           []ssh.Signer        // keys to offer, in this order; they are asked to sign only if the server takes them
	HostKeyCallback   ssh.HostKeyCallback // required
	HostKeyAlgorithms []string            // the best first; nil is all, certificates before keys; those with SHA-1 are left out
	Host              string              // what HostKeyCallback is told as the host's name; "" is the remote address
	ClientVersion     string              // begins with "SSH-2.0-"; "" is DefaultVersion
	Loop              *Loop               // that the connection shares with others; nil: it has its own
	Banner            func(text string)   // what the server says before the login; nil drops it
	Timeout           time.Duration       // of the whole login; 0 leaves the deadline to the caller
}

// A ServerConfig says who may log in.
type ServerConfig struct {
	Algorithms
	HostKeys []ssh.Signer // at least one; they sign in the loop when keys are exchanged again, and must not wait for anything

	// PublicKeyCallback decides whether somebody may log in with a key, and is called before the signature has been checked: for a
	// key that is taken twice. The permissions come back as Conn.Permissions. Of what they say, two things are held here:
	// "source-address" among the critical options, and "no-touch-required" among the extensions, which does without the touch that
	// signatures of security keys attest. An *ssh.PartialSuccessError is a refusal: nothing else is taken than a key.
	PublicKeyCallback   func(ssh.ConnMetadata, ssh.PublicKey) (*ssh.Permissions, error)
	PublicKeyAlgorithms []string // by which clients may sign; nil is all but SHA-1

	Tried         func(meta ssh.ConnMetadata, method string, err error) // told of each attempt; may be nil
	Loop          *Loop                                                 // that the connection shares with others; nil: it has its own
	MaxAuthTries  int                                                   // 0 is 6
	ServerVersion string                                                // begins with "SSH-2.0-"; "" is DefaultVersion
	Timeout       time.Duration                                         // of the whole login; 0 leaves the deadline to the caller
}

// DefaultVersion is how both sides name themselves (RFC 4253, section 4.2). It tells no version: that is for nobody to know.
const DefaultVersion = "SSH-2.0-Fairlead"

func version(text string) (string, error) {
	if text == "" {
		text = DefaultVersion
	}
	if !strings.HasPrefix(text, "SSH-2.0-") || len(text) > maxVersion-2 || strings.ContainsAny(text, "\r\n\x00") {
		return "", errors.New("an SSH version has to begin with SSH-2.0- and to be one line: " + printable(text))
	}
	return text, nil
}

// A Login is who is at the two ends of a connection. It is an ssh.ConnMetadata.
type Login struct {
	user          string
	session       []byte
	versions      [2][]byte
	local, remote net.Addr
}

// User is the name that was logged in with.
func (l *Login) User() string { return l.user }

// SessionID is the hash of the first key exchange (RFC 4253, section 7.2).
func (l *Login) SessionID() []byte { return l.session }

// ClientVersion is how the client named itself.
func (l *Login) ClientVersion() []byte { return l.versions[0] }

// ServerVersion is how the server named itself.
func (l *Login) ServerVersion() []byte { return l.versions[1] }

// LocalAddr is our end of the connection.
func (l *Login) LocalAddr() net.Addr { return l.local }

// RemoteAddr is the other one.
func (l *Login) RemoteAddr() net.Addr { return l.remote }

var _ ssh.ConnMetadata = (*Login)(nil)
