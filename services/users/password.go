package users

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"golang.org/x/crypto/argon2"
)

// Argon2 is the cost of one password hash. The zero value is the second recommended option of RFC 9106 section 4: three
// passes over 64 MiB in four lanes.
type Argon2 struct {
	Passes    uint32 // 1 to 16
	MemoryKiB uint32 // 8 for each lane, to 262,144
	Lanes     uint8  // 1 to 16
}

var standardCost = Argon2{Passes: 3, MemoryKiB: 64 << 10, Lanes: 4}

const (
	saltSize = 16 // RFC 9106 section 3.1
	sumSize  = 32
)

func (a Argon2) check() error {
	if a.Passes < 1 || a.Passes > 16 || a.Lanes < 1 || a.Lanes > 16 || a.MemoryKiB < 8*uint32(a.Lanes) || a.MemoryKiB > 256<<10 {
		return fmt.Errorf("argon2id with %d passes over %d KiB in %d lanes: 1 to 16 passes, 8 KiB for each lane to 256 MiB, 1 to 16 lanes", a.Passes, a.MemoryKiB, a.Lanes)
	}
	return nil
}

// phc is a hash with its parameters, in the form of the password hashing competition that other libraries read too:
// $argon2id$v=19$m=65536,t=3,p=4$salt$sum. It never shows in a log.
type phc string

// LogValue hides it.
func (phc) LogValue() slog.Value { return slog.StringValue("hidden") }

// Format hides it from every verb of fmt.
func (phc) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte("hidden")) }

var b64 = base64.RawStdEncoding.Strict()

// hash makes the hash of a password with a new salt.
func (a Argon2) hash(password string) phc {
	salt := make([]byte, saltSize)
	_, _ = rand.Read(salt) // never fails
	return a.phc(salt, argon2.IDKey([]byte(password), salt, a.Passes, a.MemoryKiB, a.Lanes, sumSize))
}

func (a Argon2) phc(salt, sum []byte) phc {
	return phc(fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, a.MemoryKiB, a.Passes, a.Lanes, b64.EncodeToString(salt), b64.EncodeToString(sum)))
}

// decoy is a hash that no password has. To verify against it is as much work as against any other.
func (a Argon2) decoy() phc { return a.phc(make([]byte, saltSize), make([]byte, sumSize)) }

var errNotPHC = errors.New("the stored password hash is not an argon2id PHC string within bounds")

// matches tells whether the hash is that of the password: one run, of the cost that the hash itself names.
func (h phc) matches(password string) (bool, error) {
	parts := strings.Split(string(h), "$")
	if len(parts) != 6 || parts[0] != "" || parts[1] != "argon2id" || parts[2] != fmt.Sprintf("v=%d", argon2.Version) {
		return false, errNotPHC
	}
	var a Argon2
	if n, err := fmt.Sscanf(parts[3], "m=%d,t=%d,p=%d", &a.MemoryKiB, &a.Passes, &a.Lanes); n != 3 || err != nil {
		return false, errNotPHC
	}
	salt, err := b64.DecodeString(parts[4])
	if err != nil || len(salt) < 8 || len(salt) > 64 {
		return false, errNotPHC
	}
	want, err := b64.DecodeString(parts[5])
	if err != nil || len(want) < 16 || len(want) > 64 || a.check() != nil {
		return false, errNotPHC
	}
	got := argon2.IDKey([]byte(password), salt, a.Passes, a.MemoryKiB, a.Lanes, uint32(len(want)))
	return subtle.ConstantTimeCompare(got, want) == 1, nil
}
