//go:build linux || darwin

package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func TestATokenIsKeptToHalfOfItsLifeForEachAudience(t *testing.T) {
	t.Parallel()
	a, j := startJWTAgent(t, nil)
	client := a.client(t)
	fetch := func(audience string) string {
		t.Helper()
		token, err := client.FetchJWTSVID(within(t), jwtsvid.Params{Audience: audience})
		if err != nil {
			t.Fatal(err)
		}
		return token.Marshal()
	}
	first := fetch("orders")
	for range 20 {
		if fetch("orders") != first {
			t.Fatal("another token for the same audience")
		}
	}
	fetch("billing")
	if got := j.signed(); got != 2 {
		t.Errorf("%d tokens were signed, want one for each of two audiences", got)
	}
	next := newTestJWT(t, "next")
	a.SetJWTBundle(next.bundle(a.ca.TrustDomain())) // without the key of the first: that one leaked
	fetch("orders")
	if got := j.signed(); got != 3 {
		t.Errorf("%d tokens were signed, want a new one after the keys changed", got)
	}
	j.mu.Lock()
	j.life = 2 * time.Second
	j.mu.Unlock()
	short := fetch("short")
	eventually(t, "a new token after half of its life", func() bool { return fetch("short") != short })
}

// A token that is on its way while the keys change may be signed with one that was taken back.
func TestATokenThatIsSignedWhileTheKeysChangeIsNotKept(t *testing.T) {
	t.Parallel()
	a, j := startJWTAgent(t, nil)
	next := newTestJWT(t, "next")
	j.hook = func() { a.SetJWTBundle(next.bundle(a.ca.TrustDomain())) }
	for range 3 {
		if _, err := a.client(t).FetchJWTSVID(within(t), jwtsvid.Params{Audience: "orders"}); err != nil {
			t.Fatal(err)
		}
	}
	if got := j.signed(); got != 2 {
		t.Errorf("%d tokens were signed, want another one after the keys had changed, and that one kept", got)
	}
}

func TestAttackAnAuthorityThatAnswersWithATokenOfAnother(t *testing.T) {
	t.Parallel()
	a, j := startJWTAgent(t, nil)
	j.as = a.id("/operator/alice")
	if token, err := a.client(t).FetchJWTSVID(within(t), jwtsvid.Params{Audience: "x"}); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, %v; want Unavailable", token, err)
	}
	j.as, j.err = spiffeid.ID{}, errors.New("secret of the authority")
	if _, err := a.client(t).FetchJWTSVID(within(t), jwtsvid.Params{Audience: "x"}); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "secret") {
		t.Errorf("an authority that fails: %v, want Unavailable without the reason", err)
	}
}
