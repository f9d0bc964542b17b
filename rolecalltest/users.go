package rolecalltest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/types/known/timestamppb"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
)

// TokensPath is the path of the SPIFFE ID of Users.
const TokensPath = "/service/tokens"

const tokenLife = 10 * time.Minute

// Users is a tokens service in this process, whose users are whoever a test names: for services with methods that require a
// user.
//
//	users := rolecalltest.NewUsers(ca)
//	guard, err := interceptors.New(source, bindings, interceptors.With(users.Feature()))
//	...
//	ctx = interceptors.AsUser(ctx, users.Token("alice", "orders.customer"))
//
// It knows no passwords. Safe for concurrent use.
type Users struct {
	ca      *CA
	source  *Source
	address string
	key     *ecdsa.PrivateKey

	mu          sync.Mutex
	generations map[string]int64
	raised      []*tokensv1.WatchRevocationsResponse
	changed     chan struct{} // closed and replaced when there is more in raised
}

// NewUsers starts a tokens service of the CA's trust domain on a loopback port, until the test ends.
func NewUsers(ca *CA) *Users {
	ca.t.Helper()
	u := &Users{ca: ca, source: ca.Source(TokensPath), key: newKey(ca.t).(*ecdsa.PrivateKey), generations: map[string]int64{}, changed: make(chan struct{})}
	bindings := fmt.Sprintf("trustDomain: %[1]s\nbindings:\n  - {role: tokens.verifier, members: [\"spiffe://%[1]s/service/*\"]}\n", ca.trustDomain)
	guard, err := interceptors.New(u.source, interceptors.BindingsYAML([]byte(bindings)),
		interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		ca.t.Fatalf("guard of the tokens service: %v", err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ca.t.Fatalf("listen: %v", err)
	}
	u.address = lis.Addr().String()
	server := guard.NewServer()
	tokensv1.RegisterTokensServiceServer(server, &tokensService{users: u})
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	ca.t.Cleanup(func() {
		_ = guard.Close()
		<-served
	})
	return u
}

// Feature returns the feature for the guard of a service, whose SPIFFE ID begins with /service/.
func (u *Users) Feature() interceptors.Feature {
	return usertoken.New(usertoken.Config{Target: u.address, Server: u.ID()})
}

// Target returns the address of the tokens service.
func (u *Users) Target() string { return u.address }

// ID returns the SPIFFE ID of the tokens service.
func (u *Users) ID() spiffeid.ID { return u.ca.ID(TokensPath) }

// Token returns an access token, good for ten minutes, of a user with these roles.
func (u *Users) Token(username string, roles ...string) string {
	u.ca.t.Helper()
	return u.token(username, map[string]any{"roles": append([]string{}, roles...)})
}

// NarrowToken returns an access token of a user who holds roles, and asked for a token of no more than a subset.
func (u *Users) NarrowToken(username string, roles, subset []string) string {
	u.ca.t.Helper()
	carried := slices.DeleteFunc(slices.Clone(roles), func(role string) bool { return !slices.Contains(subset, role) })
	return u.token(username, map[string]any{
		"roles": append([]string{}, carried...), "held_roles": append([]string{}, roles...), "role_subset": append([]string{}, subset...),
	})
}

func (u *Users) token(username string, claims map[string]any) string {
	u.ca.t.Helper()
	u.mu.Lock()
	generation := u.generations[username]
	u.mu.Unlock()
	now := time.Now().Unix()
	maps.Copy(claims, map[string]any{
		"iss": u.ID().String(), "aud": u.ca.trustDomain.IDString(), "sub": username, "client_id": u.ca.ID("/operator/test").String(),
		"jti": rand.Text(), "sid": rand.Text(), "gen": generation,
		"iat": now, "nbf": now, "exp": now + int64(tokenLife/time.Second), "auth_time": now,
	})
	return u.sign(u.key, "at+jwt", claims)
}

// Revoke ends all tokens that the user has so far. Services learn of it in a moment: wait for USER_TOKEN_REVOKED.
func (u *Users) Revoke(username string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.generations[username]++
	u.raised = append(u.raised, &tokensv1.WatchRevocationsResponse{
		Epoch: "test", Sequence: int64(len(u.raised) + 1),
		Change: &tokensv1.WatchRevocationsResponse_Generation{Generation: &tokensv1.GenerationRaised{
			Username: username, Generation: u.generations[username], ForgetAfter: timestamppb.New(time.Now().Add(2 * tokenLife)),
		}},
	})
	close(u.changed)
	u.changed = make(chan struct{})
}

// sign makes a JWS with ES256 (RFC 7515, RFC 7518 §3.4).
func (u *Users) sign(key crypto.Signer, typ string, claims any) string {
	u.ca.t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		u.ca.t.Fatalf("encode claims: %v", err)
	}
	text := base64.RawURLEncoding.EncodeToString
	signed := text([]byte(`{"alg":"ES256","kid":"test","typ":"`+typ+`"}`)) + "." + text(payload)
	sum := sha256.Sum256([]byte(signed))
	private, ok := key.(*ecdsa.PrivateKey)
	if !ok {
		u.ca.t.Fatalf("a %T cannot sign with ES256", key)
	}
	r, s, err := ecdsa.Sign(rand.Reader, private, sum[:])
	if err != nil {
		u.ca.t.Fatalf("sign: %v", err)
	}
	var signature [64]byte
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + text(signature[:])
}
