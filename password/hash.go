// Package password makes hashes of passwords and checks passwords against them: slowly, since that is what keeps a stolen
// hash worth little, but once for each client and not for each connection, and ever more slowly for those who guess. Who has
// a password, and where it stands, is not for this package to know.
package password

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// What Hash uses: the least that OWASP's Password Storage Cheat Sheet recommends for Argon2id.
const (
	memory   = 19456 // KiB
	passes   = 2
	threads  = 1
	saltSize = 16 // bytes (RFC 9106, section 3.1)
	keySize  = 32
)

// Bounds of hashes that others have made. A hash within them takes seconds at most.
const (
	maxMemory  = 1 << 20 // KiB, 1 GiB
	maxWork    = 4 << 20 // KiB times passes
	maxThreads = 32
	minSalt    = 8
	maxSalt    = 64
	minKey     = 16
	maxKey     = 64
	maxCost    = 16 // of bcrypt; each one more doubles the time
	bcryptSize = 60
)

// maxPassword is how long a password may be, in bytes, so that nobody makes this host hash megabytes. SOCKS takes 255.
const maxPassword = 1024

// ErrHash is the error of a hash that cannot be used.
var ErrHash = errors.New("the password hash cannot be used; make one with fairlead user add")

// Hash makes a hash of a password, in the PHC string format: $argon2id$v=19$m=19456,t=2,p=1$salt$hash.
func Hash(password string) (string, error) {
	switch {
	case password == "":
		return "", errors.New("the password is empty")
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password is %d bytes long; %d is the most", len(password), maxPassword)
	}
	p := params{memory: memory, passes: passes, threads: threads, salt: make([]byte, saltSize), key: make([]byte, keySize)}
	rand.Read(p.salt) // it never fails
	p.key = p.derive(password)
	return p.String(), nil
}

// Validate says whether Verify can use a hash, as ErrHash.
func Validate(hash string) error {
	if strings.HasPrefix(hash, "$2") {
		return validateBcrypt(hash)
	}
	_, err := parse(hash)
	return err
}

// Verify reports whether a password is the one of a hash, of Argon2id or of bcrypt. It takes as long as the hash says.
func Verify(hash, password string) (bool, error) {
	if len(password) > maxPassword {
		return false, Validate(hash)
	}
	if strings.HasPrefix(hash, "$2") {
		if err := validateBcrypt(hash); err != nil {
			return false, err
		}
		err := bcrypt.CompareHashAndPassword([]byte(hash), []byte(password))
		if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			return false, fmt.Errorf("%w: %w", ErrHash, err)
		}
		return err == nil, nil
	}
	p, err := parse(hash)
	if err != nil {
		return false, err
	}
	return subtle.ConstantTimeCompare(p.derive(password), p.key) == 1, nil
}

// validateBcrypt holds a hash to the forms that all programs write: $2a$, $2b$ and $2y$ are one.
func validateBcrypt(hash string) error {
	const alphabet = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	if len(hash) != bcryptSize || !strings.Contains("aby", hash[2:3]) || hash[3] != '$' || hash[6] != '$' || strings.Trim(hash[7:], alphabet) != "" {
		return fmt.Errorf("%w: it begins like one of bcrypt, and goes on like none", ErrHash)
	}
	if cost, err := strconv.ParseUint(hash[4:6], 10, 8); err != nil || int(cost) < bcrypt.MinCost || cost > maxCost {
		return fmt.Errorf("%w: its cost is %q; %d to %d are taken", ErrHash, hash[4:6], bcrypt.MinCost, maxCost)
	}
	return nil
}

// params are an Argon2id hash (RFC 9106).
type params struct {
	memory, passes uint32
	threads        uint8
	salt, key      []byte
}

func (p params) derive(password string) []byte {
	return argon2.IDKey([]byte(password), p.salt, p.passes, p.memory, p.threads, uint32(len(p.key)))
}

func (p params) String() string {
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, p.memory, p.passes, p.threads, text(p.salt), text(p.key))
}

// parse reads what String writes, and nothing else.
func parse(hash string) (params, error) {
	fields := strings.Split(hash, "$")
	if len(fields) != 6 || fields[0] != "" || fields[1] != "argon2id" {
		return params{}, fmt.Errorf("%w: it is neither one of argon2id nor one of bcrypt", ErrHash)
	}
	if fields[2] != "v="+strconv.Itoa(argon2.Version) {
		return params{}, fmt.Errorf("%w: its version is %q; v=%d is taken", ErrHash, fields[2], argon2.Version)
	}
	costs := strings.Split(fields[3], ",")
	if len(costs) != 3 {
		return params{}, fmt.Errorf("%w: its costs are not m=…,t=…,p=…", ErrHash)
	}
	var values [3]uint64
	for i, cost := range []struct {
		name string
		most uint64
	}{{"m=", maxMemory}, {"t=", maxWork}, {"p=", maxThreads}} {
		digits, ok := strings.CutPrefix(costs[i], cost.name)
		n, err := number(digits, cost.most)
		if !ok || err != nil || n == 0 {
			return params{}, fmt.Errorf("%w: its cost %q is not %s1 to %s%d", ErrHash, costs[i], cost.name, cost.name, cost.most)
		}
		values[i] = n
	}
	p := params{memory: uint32(values[0]), passes: uint32(values[1]), threads: uint8(values[2])}
	if values[0]*values[1] > maxWork || values[0] < 8*values[2] { // RFC 9106, section 3.1: 8 KiB for each thread at least
		return params{}, fmt.Errorf("%w: its costs %s are out of bounds", ErrHash, fields[3])
	}
	for _, part := range []struct {
		text        string
		least, most int
		into        *[]byte
	}{{fields[4], minSalt, maxSalt, &p.salt}, {fields[5], minKey, maxKey, &p.key}} {
		b, err := base64.RawStdEncoding.Strict().DecodeString(part.text)
		if err != nil || strings.ContainsAny(part.text, "\r\n") || len(b) < part.least || len(b) > part.most {
			return params{}, fmt.Errorf("%w: its salt and its hash are not base64 of %d to %d and %d to %d bytes", ErrHash, minSalt, maxSalt, minKey, maxKey)
		}
		*part.into = b
	}
	return p, nil
}

// number reads a number in its shortest form.
func number(s string, most uint64) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err == nil && (n > most || strconv.FormatUint(n, 10) != s) {
		err = strconv.ErrRange
	}
	return n, err
}
