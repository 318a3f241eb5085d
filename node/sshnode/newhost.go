package sshnode

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"
)

// checkHostKey is the callback of the handshake. It runs once more at each rekeying.
func (h *handshake) checkHostKey(ctx context.Context, keys *hostKeys, key ssh.PublicKey) error {
	refusal := keys.check(key)
	if refusal == nil {
		return nil
	}
	if len(refusal.Known) == 0 && refusal.key != nil && !refusal.Revoked {
		if err := h.accept(ctx, keys, refusal); err == nil {
			// What was accepted stays so for this connection, wherever it was written.
			keys.lines = append(keys.lines, knownLine{patterns: []string{keys.name}, key: refusal.key})
			return nil
		} else if !errors.Is(err, errNobody) {
			refusal.Err = err
		}
	}
	h.key = refusal
	return refusal
}

// accept decides on a key of a host that is in no file.
func (h *handshake) accept(ctx context.Context, keys *hostKeys, e *HostKeyError) error {
	switch h.r.StrictHostKeyChecking {
	case "accept-new", "no", "off", "false":
	case "yes", "true":
		return errNobody
	default:
		if err := h.confirm(ctx, e); err != nil {
			return err
		}
	}
	if len(h.r.UserKnownHostsFiles) == 0 {
		return errors.New("there is no file to write it to")
	}
	file := h.r.UserKnownHostsFiles[0]
	if err := appendKnown(file, keys.name, e.key, h.r.HashKnownHosts); err != nil {
		return fmt.Errorf("it cannot be written down: %w", err)
	}
	h.n.log.Warn("accepted the key of a new host", "host", e.Host, "type", e.Type, "fingerprint", e.Fingerprint, "file", file)
	return nil
}

// confirm asks whoever sits there.
func (h *handshake) confirm(ctx context.Context, e *HostKeyError) error {
	prompt := fmt.Sprintf("The authenticity of host '%s' can't be established.\n%s key fingerprint is %s.\nAre you sure you want to continue connecting (yes/no/[fingerprint])? ",
		e.Host, e.Type, e.Fingerprint)
	for range 5 {
		answer, err := h.ask(ctx, prompt, true)
		if err != nil {
			return err
		}
		switch answer = strings.TrimSpace(answer); {
		case strings.EqualFold(answer, "yes") || answer == e.Fingerprint:
			return nil
		case strings.EqualFold(answer, "no"):
			return errors.New("it was not confirmed")
		}
		prompt = "Please type 'yes', 'no' or the fingerprint: "
	}
	return errors.New("it was not confirmed")
}

// appendKnown writes a key to a file that only its owner can read, and to a line of its own.
func appendKnown(file, name string, key ssh.PublicKey, hash bool) error {
	if hash {
		name = knownhosts.HashHostname(name)
	}
	line := name + " " + strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key))) + "\n"
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
		last := make([]byte, 1)
		if _, err := f.ReadAt(last, info.Size()-1); err == nil && last[0] != '\n' {
			line = "\n" + line
		}
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
