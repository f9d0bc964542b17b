package usertoken_test

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
	"testing"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/usertoken"
)

// distinct is how many tokens take turns where none is to be remembered: more than are.
const distinct = 256

func forgetful(c *meshConfig) { c.config.CacheSize = 16 }

// BenchmarkToken measures the verification of one token: of its signature alone, of all of it, and of one that is
// remembered. `make bench` prints them as ratios.
func BenchmarkToken(b *testing.B) {
	roles := []string{"shop.vip", "orders.customer", "users.reader"}
	m := newMesh(b, forgetful)
	tokens := make([]string, distinct)
	for i := range tokens {
		tokens[i] = m.tokens.mint("alice", roles)
	}
	b.Run("what=signature", func(b *testing.B) {
		signed, signature, _ := cutLast(tokens[0])
		raw, err := base64.RawURLEncoding.DecodeString(signature)
		must(b, err)
		text, key := []byte(signed), &m.tokens.keys["k1"].PublicKey
		r, s := new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])
		b.ReportAllocs()
		for b.Loop() {
			sum := sha256.Sum256(text)
			if !ecdsa.Verify(key, sum[:], r, s) {
				b.Fatal("the signature does not hold")
			}
		}
	})
	b.Run("what=uncached", func(b *testing.B) {
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, verdict, detail := m.feature.verify(tokens[i%distinct]); verdict != feature.Good {
				b.Fatal(detail)
			}
		}
	})
	b.Run("what=cached", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, verdict, detail := m.feature.verify(tokens[0]); verdict != feature.Good {
				b.Fatal(detail)
			}
		}
	})
	user, _, _ := m.feature.verify(tokens[0])
	b.Run("what=standing", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if m.feature.running.(feature.Users).Standing(user) != feature.Good {
				b.Fatal("the user is not good")
			}
		}
	})
}

func cutLast(token string) (before, after string, found bool) {
	i := strings.LastIndexByte(token, '.')
	return token[:i], token[i+1:], i > 0
}

// Not parallel: testing.AllocsPerRun counts what the whole process allocates.
func TestAUserIsLookedAtAgainWithoutAnAllocation(t *testing.T) {
	m := newMesh(t)
	for i := range 1000 {
		m.tokens.revoke(sessionRevoked(pad(i%200 + 1)))
	}
	m.tokens.revoke(generationRaised("alice", 1))
	eventually(t, "all of the revocations", func() bool { return usertoken.Revocations(m.feature.running) == 201 })
	user, verdict, detail := m.feature.verify(m.tokens.mint("alice", nil))
	if verdict != feature.Good {
		t.Fatal(detail)
	}
	users, refusals := m.feature.running.(feature.Users), 0
	must(t, m.guard.Close()) // nothing in the background allocates beside it
	allocs := testing.AllocsPerRun(100_000, func() {
		if users.Standing(user) != feature.Good {
			refusals++
		}
	})
	if allocs != 0 || refusals != 0 {
		t.Errorf("%v allocations for each look and %d refusals, want none", allocs, refusals)
	}
}

func TestTokensAreRememberedUpToABound(t *testing.T) {
	t.Parallel()
	m := newMesh(t, forgetful)
	for range 500 {
		if _, verdict, detail := m.feature.verify(m.tokens.mint("alice", nil)); verdict != feature.Good {
			t.Fatal(detail)
		}
	}
	if n := usertoken.Cached(m.feature.running); n < 8 || n > 16 {
		t.Errorf("%d tokens are remembered, want 16 at most", n)
	}
}
