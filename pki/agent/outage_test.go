//go:build linux || darwin

package agent

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// awayJWT is an authority that does not answer while it is away, as one that gRPC waits for.
type awayJWT struct {
	*testJWT
	away  atomic.Bool
	asked atomic.Int64
}

func (j *awayJWT) SignJWT(ctx context.Context, id spiffeid.ID, audience []string) (string, error) {
	j.asked.Add(1)
	if j.away.Load() {
		<-ctx.Done()
		return "", status.FromContextError(ctx.Err()).Err()
	}
	return j.testJWT.SignJWT(ctx, id, audience)
}

// newTokenFetch returns a function that fetches a token of the ledger, as a workload does.
func newTokenFetch(t *testing.T, signer JWTSigner) func(audience ...string) (string, error) {
	t.Helper()
	kept := newTokens(signer, time.Now, slog.New(slog.DiscardHandler))
	ledger := []spiffeid.ID{spiffeid.RequireFromString("spiffe://mesh.local/service/ledger")}
	return func(audience ...string) (string, error) {
		all, err := kept.of(t.Context(), 1, ledger, audience)
		if err != nil {
			return "", err
		}
		return all[0].GetSvid(), nil
	}
}

func TestATokenServesToItsEndWhileTheAuthorityIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &awayJWT{testJWT: newTestJWT(t, "first")} // five minutes
		fetch := newTokenFetch(t, j)
		began := time.Now()
		first, err := fetch("orders")
		if err != nil {
			t.Fatal(err)
		}
		j.away.Store(true)
		time.Sleep(3 * time.Minute)
		before, waited := j.asked.Load(), time.Duration(0)
		for range 60 {
			at := time.Now()
			if got, err := fetch("orders"); err != nil || got != first {
				t.Fatalf("%s into the outage: %v, want the token that is good for another %s", time.Since(began), err, 5*time.Minute-time.Since(began))
			}
			waited += time.Since(at)
			time.Sleep(time.Second)
		}
		if asked := j.asked.Load() - before; asked > 13 || waited > 13*time.Second {
			t.Errorf("the authority was asked %d times in a minute, and workloads waited %s; want once in five seconds, for a second", asked, waited)
		}
		time.Sleep(time.Until(began.Add(5*time.Minute - 5*time.Second)))
		if _, err := fetch("orders"); status.Code(err) != codes.Unavailable {
			t.Errorf("five seconds before the end of the token: %v, want Unavailable", err)
		}
		j.away.Store(false)
		if got, err := fetch("orders"); err != nil || got == first {
			t.Errorf("the authority is back: %v, want a new token", err)
		}
	})
}

func TestATokenOfAnIdentityThatTheAuthorityRefusesByNowIsNotHandedOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := newTestJWT(t, "first")
		fetch := newTokenFetch(t, j)
		if _, err := fetch("orders"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		j.err = status.Error(codes.PermissionDenied, "not any more")
		if token, err := fetch("orders"); status.Code(err) != codes.Unavailable {
			t.Errorf("got %d bytes, %v; want Unavailable", len(token), err)
		}
	})
}

func TestAttackAudiencesThatLookLikeThoseOfAnotherToken(t *testing.T) {
	t.Parallel()
	fetch := newTokenFetch(t, newTestJWT(t, "first"))
	var tokens []string
	for _, audience := range [][]string{{"orders", "billing"}, {"orders\x00billing"}, {"orders billing"}, {`orders" "billing`}} {
		token, err := fetch(audience...)
		if err != nil || slices.Contains(tokens, token) {
			t.Errorf("%q: %v, or the token of other audiences", audience, err)
		}
		tokens = append(tokens, token)
	}
}
