package nodetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/rolecalltest"
)

// Users starts a tokens service whose users are whoever the test names. Services of the mesh verify them from then on; a
// service that runs already takes a moment: see Verifies.
func (m *Mesh) Users(t *testing.T) *rolecalltest.Users {
	t.Helper()
	users := rolecalltest.NewUsers(m.CA)
	m.Tokens.lead(users.Target())
	return users
}

// Verifies waits until a service that is asked verifies users: until the answer is another than that it cannot do so yet.
func Verifies(t *testing.T, ask func() error) {
	t.Helper()
	began := time.Now()
	for Reason(ask()) == "VERIFIER_UNAVAILABLE" {
		if time.Since(began) > Patience {
			t.Fatalf("users are not verified within %s", Patience)
		}
	}
	t.Logf("users are verified after %s", time.Since(began).Round(time.Millisecond))
}

// Reason returns the reason of a refusal, empty for none.
func Reason(err error) string {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// Company is an issuer of users that is not the mesh's own.
type Company struct {
	// Issuer is to be given to node.Config.Issuers.
	Issuer usertoken.Issuer

	signer jose.Signer
}

// NewCompany makes an issuer whose keys lie in a file.
func NewCompany(t *testing.T) *Company {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	set, err := json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{{Key: key.Public(), KeyID: "1", Algorithm: "ES256", Use: "sig"}}})
	if err != nil {
		t.Fatal(err)
	}
	c := &Company{Issuer: usertoken.Issuer{
		URL: "https://login.company.example", Audience: "https://api.company.example", JWKSFile: filepath.Join(t.TempDir(), "jwks.json"),
	}}
	if err := os.WriteFile(c.Issuer.JWKSFile, set, 0o600); err != nil {
		t.Fatal(err)
	}
	c.signer, err = jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: key, KeyID: "1"}},
		(&jose.SignerOptions{}).WithType("at+jwt"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Token returns an access token, good for ten minutes, of a user with these roles.
func (c *Company) Token(t *testing.T, subject string, roles ...string) string {
	t.Helper()
	now := time.Now()
	token, err := jwt.Signed(c.signer).Claims(map[string]any{
		"iss": c.Issuer.URL, "aud": c.Issuer.Audience, "sub": subject, "client_id": "shop", "jti": rand.Text(), "roles": append([]string{}, roles...),
		"iat": now.Unix(), "exp": now.Add(10 * time.Minute).Unix(),
	}).Serialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}
