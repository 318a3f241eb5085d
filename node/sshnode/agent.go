package sshnode

import (
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
)

// How long an agent is waited for: to name its keys, and to sign, for which it may ask somebody to touch a token.
const (
	agentList = 5 * time.Second
	agentSign = 2 * time.Minute
)

// An agentConn is a connection to an agent. It is asked to name keys and to sign, and nothing else.
type agentConn struct {
	conn net.Conn
	ask  agent.ExtendedAgent
}

func (c *agentConn) close() { _ = c.conn.Close() }

// agentSocket is the path of the agent's socket; "" is none.
func agentSocket(setting string) string {
	switch {
	case isNone(setting):
		return ""
	case setting == "SSH_AUTH_SOCK":
		return os.Getenv("SSH_AUTH_SOCK")
	case strings.HasPrefix(setting, "$"):
		return os.Getenv(strings.Trim(setting[1:], "{}"))
	}
	return setting
}

// agentSigners is the keys of the agent, if there is one. An agent that does not answer is noted and done without.
func (a *login) agentSigners() []ssh.Signer {
	path := agentSocket(a.h.r.IdentityAgent)
	if path == "" {
		return nil
	}
	conn, err := net.DialTimeout("unix", path, agentList)
	if err != nil {
		a.note(fmt.Sprintf("no agent at %s: %v", path, plain(err)))
		return nil
	}
	a.agent = &agentConn{conn, agent.NewClient(conn)}
	_ = conn.SetDeadline(time.Now().Add(agentList))
	keys, err := a.agent.ask.List()
	if err != nil {
		a.note(fmt.Sprintf("the agent at %s names no keys: %v", path, err))
		return nil
	}
	var list []ssh.Signer
	for _, k := range keys {
		public, err := ssh.ParsePublicKey(k.Blob)
		if err != nil {
			continue // of a kind that no method here can offer
		}
		list = append(list, &agentSigner{a, public})
	}
	return list
}

// An agentSigner has the agent sign. The clock of the handshake stands meanwhile.
type agentSigner struct {
	a      *login
	public ssh.PublicKey
}

var _ ssh.MultiAlgorithmSigner = (*agentSigner)(nil)

func (s *agentSigner) PublicKey() ssh.PublicKey { return s.public }
func (s *agentSigner) Algorithms() []string     { return signatures(s.public) }

func (s *agentSigner) Sign(rand io.Reader, data []byte) (*ssh.Signature, error) {
	return s.SignWithAlgorithm(rand, data, "")
}

func (s *agentSigner) SignWithAlgorithm(_ io.Reader, data []byte, algorithm string) (*ssh.Signature, error) {
	s.a.h.pause()
	defer s.a.h.proceed()
	_ = s.a.agent.conn.SetDeadline(time.Now().Add(agentSign))
	var flags agent.SignatureFlags
	switch algorithm {
	case ssh.KeyAlgoRSASHA256:
		flags = agent.SignatureFlagRsaSha256
	case ssh.KeyAlgoRSASHA512:
		flags = agent.SignatureFlagRsaSha512
	}
	signature, err := s.a.agent.ask.SignWithFlags(s.public, data, flags)
	if err != nil {
		s.a.note(fmt.Sprintf("the agent did not sign with %s: %v", ssh.FingerprintSHA256(s.public), err))
	}
	return signature, err
}
