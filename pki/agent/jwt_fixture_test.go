//go:build linux || darwin

package agent

import (
	"context"
	"crypto"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/pki"
)

// testJWT signs JWT-SVIDs with a key in memory.
type testJWT struct {
	key crypto.Signer
	kid string

	mu   sync.Mutex
	life time.Duration // five minutes if zero
	as   spiffeid.ID   // instead of the identity that was asked for
	err  error         // instead of a token
	hook func()        // before a token is signed
	n    int
}

func newTestJWT(t *testing.T, kid string) *testJWT {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return &testJWT{key: key, kid: kid}
}

// SignJWT signs a token of the identity for the audience.
func (j *testJWT) SignJWT(_ context.Context, id spiffeid.ID, audience []string) (string, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return "", j.err
	}
	if !j.as.IsZero() {
		id = j.as
	}
	life := j.life
	if life == 0 {
		life = 5 * time.Minute
	}
	if j.hook != nil {
		j.hook()
	}
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: j.key, KeyID: j.kid}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", err
	}
	j.n++
	now := time.Now()
	return jwt.Signed(signer).Claims(jwt.Claims{Subject: id.String(), Audience: audience,
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(life))}).Serialize()
}

func (j *testJWT) signed() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.n
}

// bundle returns the public key.
func (j *testJWT) bundle(td spiffeid.TrustDomain) *jwtbundle.Bundle {
	return jwtbundle.FromJWTAuthorities(td, map[string]crypto.PublicKey{j.kid: j.key.Public()})
}

// startJWTAgent starts an agent that issues JWT-SVIDs, with this process registered as the ledger.
func startJWTAgent(t *testing.T, change func(*Config, *testSigner)) (*testAgent, *testJWT) {
	t.Helper()
	j := newTestJWT(t, "first")
	a := startAgent(t, func(c *Config, s *testSigner) {
		c.JWT = j
		if change != nil {
			change(c, s)
		}
	})
	a.SetJWTBundle(j.bundle(a.ca.TrustDomain()))
	a.register(t, "/service/ledger")
	return a, j
}
