package password

import (
	"errors"
	"strings"
	"testing"
)

func TestHash(t *testing.T) {
	for _, password := range []string{"pässwörd", strings.Repeat("x", maxPassword)} {
		hash, err := Hash(password)
		if err != nil || !strings.HasPrefix(hash, "$argon2id$v=19$m=19456,t=2,p=1$") {
			t.Fatalf("%q, %v", hash, err)
		}
		if again, _ := Hash(password); again == hash {
			t.Error("two hashes are the same")
		}
		if ok, err := Verify(hash, password); !ok || err != nil {
			t.Errorf("%q: %v, %v", password, ok, err)
		}
		if ok, err := Verify(hash, password+"x"); ok || err != nil {
			t.Errorf("%q and more: %v, %v", password, ok, err)
		}
	}
	for _, password := range []string{"", strings.Repeat("x", maxPassword+1)} {
		if _, err := Hash(password); err == nil {
			t.Errorf("%d bytes: passed", len(password))
		}
	}
}

// TestVerify has hashes that other programs made: argon2(1), htpasswd -B, and PHP's password_hash.
func TestVerify(t *testing.T) {
	for _, test := range []struct{ hash, password string }{
		{"$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"}, // test.c of phc-winner-argon2
		{"$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"},
		{"$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "password"},
		{"$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"}, // crypt_blowfish's tests
		{"$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{"$2b$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "U*U*U"},
	} {
		if ok, err := Verify(test.hash, test.password); !ok || err != nil {
			t.Errorf("%s: %v, %v", test.hash, ok, err)
		}
		if ok, err := Verify(test.hash, test.password+"x"); ok || err != nil {
			t.Errorf("%s, another password: %v, %v", test.hash, ok, err)
		}
	}
}

func TestValidate(t *testing.T) {
	const salt, key = "$c29tZXNhbHQ$", "nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4"
	for _, test := range []struct {
		hash string
		ok   bool
	}{
		{decoy, true},
		{"$argon2id$v=19$m=1048576,t=4,p=32" + salt + key, true},
		{"", false},
		{"secret", false},
		{"$argon2i$v=19$m=256,t=2,p=1" + salt + key, false},
		{"$argon2id$v=16$m=256,t=2,p=1" + salt + key, false},
		{"$argon2id$m=256,t=2,p=1" + salt + key, false},
		{"$argon2id$v=19$m=1048577,t=1,p=1" + salt + key, false},
		{"$argon2id$v=19$m=1048576,t=5,p=1" + salt + key, false},
		{"$argon2id$v=19$m=8,t=524289,p=1" + salt + key, false},
		{"$argon2id$v=19$m=7,t=1,p=1" + salt + key, false},
		{"$argon2id$v=19$m=256,t=1,p=33" + salt + key, false},
		{"$argon2id$v=19$m=256,t=0,p=1" + salt + key, false},
		{"$argon2id$v=19$m=256,t=1,p=0" + salt + key, false},
		{"$argon2id$v=19$m=+256,t=1,p=1" + salt + key, false},
		{"$argon2id$v=19$m=00256,t=1,p=1" + salt + key, false},
		{"$argon2id$v=19$t=1,m=256,p=1" + salt + key, false},
		{"$argon2id$v=19$m=256,t=1,p=1,x=1" + salt + key, false},
		{"$argon2id$v=19$m=256,t=1,p=1$c2FsdA$" + key, false},
		{"$argon2id$v=19$m=256,t=1,p=1" + salt + "AAAA", false},
		{"$argon2id$v=19$m=256,t=1,p=1" + salt + key + "=", false},
		{"$argon2id$v=19$m=256,t=1,p=1" + salt + key + "$", false},
		{"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", true},
		{"$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", false},
		{"$2b$17$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", false},
		{"$2b$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", false},
		{"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe", false},
		{"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyO:W", false},
		{"$2", false},
	} {
		err := Validate(test.hash)
		if (err == nil) != test.ok || err != nil && !errors.Is(err, ErrHash) {
			t.Errorf("%s: %v", test.hash, err)
		}
		if !test.ok {
			if ok, err := Verify(test.hash, "password"); ok || !errors.Is(err, ErrHash) {
				t.Errorf("%s: verified %v, %v", test.hash, ok, err)
			}
		}
	}
}

// TestDecoyCostsTheSame holds the decoy to the costs of Hash.
func TestDecoyCostsTheSame(t *testing.T) {
	p, err := parse(decoy)
	if err != nil || p.memory != memory || p.passes != passes || p.threads != threads || len(p.salt) != saltSize || len(p.key) != keySize {
		t.Errorf("%+v, %v", p, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		decoy, "$argon2id$v=19$m=256,t=2,p=2$c29tZXNhbHQ$bQk8UB/VmZZF4Oo79iDXuL5/0ttZwg2f/5U52iv1cDc", "$argon2id$v=19$m=1,t=1,p=1$$", "$$$$$", "$2",
		"$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		err := Validate(s)
		if err != nil && !errors.Is(err, ErrHash) {
			t.Errorf("%q: %v", s, err)
		}
		if p, err := parse(s); err == nil {
			if p.String() != s {
				t.Errorf("%q became %q", s, p)
			}
			if p.memory > 1<<10 || p.passes > 4 {
				return // this is no place to wait
			}
		} else if len(s) > 5 && s[4:6] > "04" {
			return
		}
		if ok, err := Verify(s, "x"); ok || (err == nil) != (Validate(s) == nil) {
			t.Errorf("%q: %v, %v", s, ok, err)
		}
	})
}
