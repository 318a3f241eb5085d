package vhost

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

const (
	keySize   = 32 // AES-256
	maxCookie = 4096
)

// A sealer makes cookies that nobody but this program can read or make.
type sealer struct{ aead cipher.AEAD }

// sealed is what a cookie says, and until when that holds.
type sealed struct {
	Until int64 // Unix time, seconds
	Says  json.RawMessage
}

var errSeal = errors.New("the cookie is not one of ours, or too old")

// loadSealer reads the key, and makes one at the first time.
func loadSealer(file string) (*sealer, error) {
	key, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		key, err = makeKey(file)
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("the key of cookies: %w", err)
	case len(key) != keySize:
		return nil, fmt.Errorf("the key of cookies: %s has %d bytes and not %d; remove it for a new one", file, len(key), keySize)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCMWithRandomNonce(block)
	return &sealer{aead}, err
}

// makeKey writes a new key, whole or not at all.
func makeKey(file string) ([]byte, error) {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // it never fails
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	if err := os.WriteFile(file+".new", key, 0o600); err != nil {
		return nil, err
	}
	return key, os.Rename(file+".new", file)
}

// seal makes a cookie for one purpose, that lives for so long.
func (s *sealer) seal(purpose string, says any, life time.Duration) (string, error) {
	inner, err := json.Marshal(says)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(sealed{time.Now().Add(life).Unix(), inner})
	if err != nil {
		return "", err
	}
	return base64.RawURLEncoding.EncodeToString(s.aead.Seal(nil, nil, text, []byte(purpose))), nil
}

// open reads a cookie that was sealed for the same purpose.
func (s *sealer) open(purpose, cookie string, says any) error {
	if len(cookie) > maxCookie {
		return errSeal
	}
	raw, err := base64.RawURLEncoding.DecodeString(cookie)
	if err != nil {
		return errSeal
	}
	text, err := s.aead.Open(nil, nil, raw, []byte(purpose))
	if err != nil {
		return errSeal
	}
	var outer sealed
	if json.Unmarshal(text, &outer) != nil || time.Now().Unix() >= outer.Until || json.Unmarshal(outer.Says, says) != nil {
		return errSeal
	}
	return nil
}
