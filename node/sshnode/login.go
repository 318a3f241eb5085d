package sshnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
)

// A login is the client's side of one authentication (RFC 4252): what to offer next.
type login struct {
	h   *handshake
	ask func(prompt string, echo bool) (string, error)

	loaded    bool
	keys      []candidate
	passwords int
	dialogues int
	remember  string // a password that may turn out to be right
	fresh     bool   // the one that was right before has not been used in this method
	agent     *agentConn
	allowed   []string
	tried     []string
	notes     []string
	asked     bool // the library has asked for a method
}

// manyKeys is how many an sshd lets a client offer by default (MaxAuthTries).
const manyKeys = 5

// A candidate is one key to offer.
type candidate struct {
	signer ssh.Signer
	name   string
}

func newLogin(ctx context.Context, h *handshake) *login {
	return &login{h: h, ask: func(prompt string, echo bool) (string, error) { return h.ask(ctx, prompt, echo) }}
}

func (a *login) started() bool { return a.asked }

func (a *login) close() {
	if a.agent != nil {
		a.agent.close()
	}
}

// note adds what somebody should know if nothing helps.
func (a *login) note(text string) {
	if !slices.Contains(a.notes, text) {
		a.notes = append(a.notes, text)
	}
}

// next is the callback of the library: each key is a method of its own, so that one that cannot sign does not end the others.
func (a *login) next(c *ssh.ClientAuthContext) (ssh.AuthMethod, error) {
	a.asked = true
	a.allowed = c.AllowedMethods
	for _, method := range a.order() {
		if !slices.Contains(c.AllowedMethods, method) {
			continue
		}
		switch method {
		case "publickey":
			if !a.loaded {
				a.loaded = true
				a.keys = a.candidates()
			}
			if len(a.keys) > 0 {
				k := a.keys[0]
				a.keys = a.keys[1:]
				a.tried = append(a.tried, k.name)
				return ssh.PublicKeys(k.signer), nil
			}
		case "keyboard-interactive":
			if a.dialogues < a.h.r.PasswordPrompts && a.canAsk(method) {
				a.again(a.dialogues)
				a.dialogues++
				a.tried = append(a.tried, method)
				return ssh.KeyboardInteractive(a.challenge), nil
			}
		case "password":
			if a.passwords < a.h.r.PasswordPrompts && a.canAsk(method) {
				a.again(a.passwords)
				a.passwords++
				a.tried = append(a.tried, method)
				return ssh.PasswordCallback(a.askPassword), nil
			}
		}
	}
	return nil, a.explain(nil)
}

func (a *login) order() []string {
	if len(a.h.r.Authentications) > 0 {
		return a.h.r.Authentications
	}
	return []string{"publickey", "keyboard-interactive", "password"}
}

func (a *login) canAsk(method string) bool {
	if a.h.n.knownPassword() != "" || a.h.n.o.Ask != nil && !a.h.r.BatchMode {
		return true
	}
	a.note(fmt.Sprintf("the server takes %s, but there is nobody to ask: use a key, or connect from a terminal", method))
	return false
}

// again prepares for a method after so many tries of it: the password that was right before has one.
func (a *login) again(tries int) {
	a.fresh = tries == 0
	if tries > 0 {
		a.h.n.learn("")
	}
}

// former is the password that was right before, once for each method.
func (a *login) former() string {
	if !a.fresh {
		return ""
	}
	a.fresh = false
	known := a.h.n.knownPassword()
	if known != "" {
		a.remember = known
	}
	return known
}

// askPassword is the one that was right before, and then what somebody types.
func (a *login) askPassword() (string, error) {
	if known := a.former(); known != "" {
		return known, nil
	}
	answer, err := a.ask(fmt.Sprintf("%s@%s's password: ", a.h.r.User, a.h.r.HostName), false)
	a.remember = answer
	return answer, err
}

// challenge answers questions of the server's (RFC 4256). A single one for a password gets the one that was right before.
func (a *login) challenge(name, instruction string, questions []string, echos []bool) ([]string, error) {
	const most = 16 // questions at once that anybody would be asked in earnest
	if len(questions) > most {
		return nil, fmt.Errorf("the server asks %d questions at once", len(questions))
	}
	single := len(questions) == 1 && !echos[0] && strings.Contains(strings.ToLower(questions[0]), "password")
	if single {
		if known := a.former(); known != "" {
			return []string{known}, nil
		}
	}
	var answers []string
	for i, q := range questions {
		prompt := clean(q) + " "
		if i == 0 {
			prompt = strings.TrimLeft(clean(name)+"\n"+clean(instruction)+"\n", "\n") + fmt.Sprintf("(%s@%s) ", a.h.r.User, a.h.r.HostName) + prompt
		}
		answer, err := a.ask(prompt, echos[i])
		if err != nil {
			return nil, err
		}
		answers = append(answers, answer)
		if single {
			a.remember = answer
		}
	}
	return answers, nil
}

// succeeded keeps a password that was right, so that a connection that breaks comes back by itself.
func (a *login) succeeded() {
	if a.remember != "" {
		a.h.n.learn(a.remember)
	}
}

func (n *Node) knownPassword() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.password
}

func (n *Node) learn(password string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.password = password
}

func (a *login) explain(err error) error {
	var already *AuthError
	if errors.As(err, &already) {
		return already
	}
	a.h.n.learn("") // what was right is not any more
	if err != nil && len(a.tried) > manyKeys {
		a.note("a server cuts a client off who offers many keys: name the right one as identity, and set IdentitiesOnly")
	}
	return &AuthError{
		User: a.h.r.User, Host: a.h.r.address(), Tried: a.tried, Accepts: a.allowed, Notes: a.notes, Err: err,
	}
}

// candidates is every key, in the order of OpenSSH: those of the files that the agent holds, the agent's others, the files.
func (a *login) candidates() []candidate {
	files := a.identities()
	var preferred, agents []candidate
	for _, s := range a.agentSigners() {
		found := slices.IndexFunc(files, func(id *identity) bool { return sameKey(id.public, s.PublicKey()) })
		switch {
		case found >= 0:
			preferred = append(preferred, candidate{s, files[found].name()})
			files = slices.Delete(files, found, found+1)
		case !a.h.r.IdentitiesOnly:
			agents = append(agents, candidate{s, "a key of the agent (" + ssh.FingerprintSHA256(s.PublicKey()) + ")"})
		}
		// A certificate in a file may belong to a key of the agent.
		for i, id := range files {
			if cert, ok := id.public.(*ssh.Certificate); ok && id.path == "" && sameKey(cert.Key, s.PublicKey()) {
				if signer, err := ssh.NewCertSigner(cert, s); err == nil {
					preferred = append(preferred, candidate{signer, id.name()})
					files = slices.Delete(files, i, i+1)
				}
				break
			}
		}
	}
	list := slices.Concat(preferred, agents)
	for _, id := range files {
		if id.path == "" {
			a.note(fmt.Sprintf("%s has no private key beside it, nor in the agent", id.from))
			continue
		}
		list = append(list, candidate{&fileSigner{a: a, id: id}, id.name()})
	}
	return slices.DeleteFunc(list, func(c candidate) bool { return !a.accepted(c.signer.PublicKey()) })
}

// accepted reports whether the settings let a key be used at all.
func (a *login) accepted(key ssh.PublicKey) bool {
	if len(a.h.r.KeyAlgorithms) == 0 {
		return true
	}
	names := signatures(key)
	if key.Type() != ssh.KeyAlgoRSA && key.Type() != names[0] { // a certificate
		names = []string{key.Type()}
		if key.Type() == ssh.CertAlgoRSAv01 {
			names = []string{ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01}
		}
	}
	return slices.ContainsFunc(names, func(name string) bool { return slices.Contains(a.h.r.KeyAlgorithms, name) })
}

// identities reads what can be offered without opening a private key.
func (a *login) identities() []*identity {
	var list []*identity
	var certs []string
	for _, path := range a.h.r.IdentityFiles {
		id, err := readIdentity(path)
		if err != nil {
			if !errors.Is(err, os.ErrNotExist) || !strings.HasPrefix(filepath.Base(path), "id_") || len(a.h.n.ssh.Identities) > 0 {
				a.note(err.Error())
			}
			continue
		}
		list = append(list, id)
		if len(a.h.r.CertificateFiles) == 0 {
			certs = append(certs, strings.TrimSuffix(path, ".pub")+"-cert.pub")
			if cert := a.certificate(certs[len(certs)-1], list, true); cert != nil {
				list = append(list, cert)
			}
		}
	}
	for _, path := range a.h.r.CertificateFiles {
		if cert := a.certificate(path, list, false); cert != nil {
			list = append(list, cert)
		}
	}
	return list
}

// certificate is an identity that signs with the private key of one in list; with a path of "" if there is none.
func (a *login) certificate(path string, list []*identity, optional bool) *identity {
	public, err := readPublic(path)
	if err != nil {
		if !optional || !errors.Is(err, os.ErrNotExist) {
			a.note(err.Error())
		}
		return nil
	}
	cert, ok := public.(*ssh.Certificate)
	if !ok {
		a.note(path + " is no certificate")
		return nil
	}
	id := &identity{from: path, public: cert}
	for _, other := range list {
		if sameKey(other.public, cert.Key) {
			id.path = other.path
		}
	}
	return id
}
