package users

import (
	"fmt"
	"strings"
	"testing"
)

func TestAPasswordHashIsReadStrictly(t *testing.T) {
	t.Parallel()
	cost := Argon2{Passes: 1, MemoryKiB: 64, Lanes: 1}
	good := string(cost.hash("a password"))
	if ok, err := phc(good).matches("a password"); !ok || err != nil {
		t.Errorf("the hash of the password: %v, %v", ok, err)
	}
	if ok, err := phc(good).matches("another"); ok || err != nil {
		t.Errorf("another password: %v, %v", ok, err)
	}
	// From the tests of the reference implementation (P-H-C/phc-winner-argon2, src/test.c).
	const reference = "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc"
	if ok, err := phc(reference).matches("password"); !ok || err != nil {
		t.Errorf("the hash of another implementation: %v, %v", ok, err)
	}
	if shown := fmt.Sprintf("%v%s%+v%#v%q", phc(good), phc(good), phc(good), phc(good), phc(good)); strings.Contains(shown, "$") {
		t.Errorf("a hash shows itself: %s", shown)
	}
	for name, bad := range map[string]phc{
		"empty":                    "",
		"argon2i":                  "$argon2i$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"another version":          "$argon2id$v=16$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a terabyte of memory":     "$argon2id$v=19$m=1073741824,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"no passes":                "$argon2id$v=19$m=64,t=0,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"no lanes":                 "$argon2id$v=19$m=64,t=1,p=0$AAAAAAAAAAAAAAAAAAAAAA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a sum of four bytes":      "$argon2id$v=19$m=64,t=1,p=1$AAAAAAAAAAAAAAAAAAAAAA$AAAAAA",
		"no salt":                  "$argon2id$v=19$m=64,t=1,p=1$$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
		"a password in plain text": "a password",
	} {
		if ok, err := bad.matches("a password"); ok || err == nil {
			t.Errorf("%s: got %v, %v, want an error", name, ok, err)
		}
	}
}
