//go:build linux || darwin

package agent

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// client returns go-spiffe's client of the agent.
func (a *testAgent) client(t *testing.T) *workloadapi.Client {
	t.Helper()
	client, err := workloadapi.New(within(t), workloadapi.WithAddr(a.address()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func TestGoSPIFFEsJWTSourceIsServed(t *testing.T) {
	t.Parallel()
	a, j := startJWTAgent(t, nil)
	source, err := workloadapi.NewJWTSource(within(t), workloadapi.WithClientOptions(workloadapi.WithAddr(a.address())))
	if err != nil {
		t.Fatalf("NewJWTSource: %v", err)
	}
	t.Cleanup(func() { _ = source.Close() })
	token, err := source.FetchJWTSVID(within(t), jwtsvid.Params{Audience: "orders", ExtraAudiences: []string{"billing"}})
	if err != nil {
		t.Fatalf("FetchJWTSVID: %v", err)
	}
	if token.ID != a.id("/service/ledger") || !cmp.Equal(token.Audience, []string{"orders", "billing"}) {
		t.Errorf("got a token of %s for %v", token.ID, token.Audience)
	}
	checked, err := jwtsvid.ParseAndValidate(token.Marshal(), source, []string{"billing"})
	if err != nil || checked.ID != token.ID {
		t.Errorf("by the bundle of the source the token is %v, %v", checked, err)
	}
	valid, err := a.client(t).ValidateJWTSVID(within(t), token.Marshal(), "orders")
	if err != nil || valid.ID != token.ID {
		t.Errorf("ValidateJWTSVID: %v, %v", valid, err)
	}
	next := newTestJWT(t, "next")
	both := j.bundle(a.ca.TrustDomain())
	if err := both.AddJWTAuthority(next.kid, next.key.Public()); err != nil {
		t.Fatal(err)
	}
	a.SetJWTBundle(both)
	eventually(t, "the next key in go-spiffe's source", func() bool {
		got, err := source.GetJWTBundleForTrustDomain(a.ca.TrustDomain())
		return err == nil && got.Equal(both)
	})
}

func TestAllIdentitiesOfACallerGetATokenOrTheOneItAsksFor(t *testing.T) {
	t.Parallel()
	a, _ := startJWTAgent(t, nil)
	a.register(t, "/service/second")
	client := a.client(t)
	ids := func(p jwtsvid.Params) (got []string) {
		t.Helper()
		tokens, err := client.FetchJWTSVIDs(within(t), p)
		if err != nil {
			t.Fatal(err)
		}
		for _, token := range tokens {
			got = append(got, token.ID.Path())
		}
		return got
	}
	if diff := cmp.Diff([]string{"/service/ledger", "/service/second"}, ids(jwtsvid.Params{Audience: "x"})); diff != "" {
		t.Errorf("without a wish (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/service/second"}, ids(jwtsvid.Params{Audience: "x", Subject: a.id("/service/second")})); diff != "" {
		t.Errorf("with a wish (-want +got):\n%s", diff)
	}
}

func TestAttackAJWTAskedForTheIdentityOfAnother(t *testing.T) {
	t.Parallel()
	a, j := startJWTAgent(t, nil)
	other, _ := start(t, "wait", "")
	a.registerProcess(t, "/service/orders", other.Process.Pid)
	for _, id := range []spiffeid.ID{a.id("/service/orders"), a.id("/operator/alice"), spiffeid.RequireFromString("spiffe://evil.local/service/ledger")} {
		_, err := a.client(t).FetchJWTSVID(within(t), jwtsvid.Params{Audience: "x", Subject: id})
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%s: %v, want PermissionDenied", id, err)
		}
	}
	if got := j.signed(); got != 0 {
		t.Errorf("%d tokens were signed", got)
	}
}

func TestRequestsForJWTSVIDsAreBounded(t *testing.T) {
	t.Parallel()
	a, _ := startJWTAgent(t, nil)
	client := dial(t, a.address())
	for name, r := range map[string]*workload.JWTSVIDRequest{
		"no audience":           {},
		"an empty audience":     {Audience: []string{"x", ""}},
		"nine audiences":        {Audience: strings.Split("123456789", "")},
		"a long audience":       {Audience: []string{strings.Repeat("x", 513)}},
		"an ID that is none":    {Audience: []string{"x"}, SpiffeId: "ledger"},
		"an ID of another kind": {Audience: []string{"x"}, SpiffeId: "https://mesh.local/x"},
	} {
		if _, err := client.FetchJWTSVID(withHeader(within(t)), r); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v, want InvalidArgument", name, err)
		}
	}
}

func TestTokensThatAreNotValidAreInvalidArguments(t *testing.T) {
	t.Parallel()
	a, j := startJWTAgent(t, nil)
	client := dial(t, a.address())
	td := a.ca.TrustDomain()
	sign := func(j *testJWT, id spiffeid.ID, life time.Duration) string {
		t.Helper()
		j.mu.Lock()
		j.life = life
		j.mu.Unlock()
		token, err := j.SignJWT(t.Context(), id, []string{"orders"})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	good := sign(j, a.id("/service/x"), time.Minute)
	parts := strings.Split(good, ".")
	foreign := newTestJWT(t, "foreign")
	partner := spiffeid.RequireTrustDomainFromString("partner.example")
	federated := spiffebundle.New(partner)
	federated.SetJWTAuthorities(foreign.bundle(partner).JWTAuthorities())
	a.SetFederated([]*spiffebundle.Bundle{federated})
	for _, c := range []struct {
		name, token, audience string
		want                  codes.Code
	}{
		{"a good one", good, "orders", codes.OK},
		{"one of a federated trust domain", sign(foreign, spiffeid.RequireFromPath(partner, "/x"), time.Minute), "orders", codes.OK},
		{"a federated key for the own trust domain", sign(foreign, a.id("/service/x"), time.Minute), "orders", codes.InvalidArgument},
		{"another audience", good, "billing", codes.InvalidArgument},
		{"no audience", good, "", codes.InvalidArgument},
		{"no token", "", "orders", codes.InvalidArgument},
		{"rubbish", "a.b.c", "orders", codes.InvalidArgument},
		{"a huge token", strings.Repeat("x", maxToken+1), "orders", codes.InvalidArgument},
		{"an expired one", sign(j, a.id("/service/x"), -10*time.Minute), "orders", codes.InvalidArgument},
		{"a key that nobody knows", sign(newTestJWT(t, "first"), a.id("/service/x"), time.Minute), "orders", codes.InvalidArgument},
		{"no signature", parts[0] + "." + parts[1] + ".", "orders", codes.InvalidArgument},
		{"a trust domain that nobody knows", sign(j, spiffeid.RequireFromString("spiffe://evil.local/x"), time.Minute), "orders", codes.InvalidArgument},
		{"the algorithm none", "eyJhbGciOiJub25lIn0." + parts[1] + ".", "orders", codes.InvalidArgument},
	} {
		response, err := client.ValidateJWTSVID(withHeader(within(t)), &workload.ValidateJWTSVIDRequest{Audience: c.audience, Svid: c.token})
		if status.Code(err) != c.want {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
		if err == nil && (response.GetClaims().GetFields()["sub"].GetStringValue() != response.GetSpiffeId() || response.GetSpiffeId() == "") {
			t.Errorf("%s: claims %v of %q", c.name, response.GetClaims(), response.GetSpiffeId())
		}
	}
	if got := a.trust.Load().jwt; !got.Equal(j.bundle(td)) {
		t.Error("the own keys have changed")
	}
}

// jwtWatcher keeps what WatchJWTBundles tells.
type jwtWatcher struct {
	mu  sync.Mutex
	set *jwtbundle.Set
}

func (w *jwtWatcher) OnJWTBundlesUpdate(set *jwtbundle.Set) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set = set
}

func (w *jwtWatcher) OnJWTBundlesWatchError(error) {}

func (w *jwtWatcher) domains() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.set == nil {
		return 0
	}
	return w.set.Len()
}

func TestJWTBundlesAreWatchedFromTheMomentAtWhichTheyAreKnown(t *testing.T) {
	t.Parallel()
	j := newTestJWT(t, "first")
	a := startAgent(t, func(c *Config, _ *testSigner) { c.JWT = j })
	a.register(t, "/service/ledger")
	var seen jwtWatcher
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	client := a.client(t)
	go func() { done <- client.WatchJWTBundles(ctx, &seen) }()
	eventually(t, "a stream with nothing to say", func() bool { return a.streams.count() == 1 })
	a.SetJWTBundle(j.bundle(a.ca.TrustDomain()))
	eventually(t, "the own keys", func() bool { return seen.domains() == 1 })
	partner := spiffebundle.New(spiffeid.RequireTrustDomainFromString("partner.example"))
	partner.SetJWTAuthorities(j.bundle(partner.TrustDomain()).JWTAuthorities())
	a.SetFederated([]*spiffebundle.Bundle{partner})
	eventually(t, "the federated keys", func() bool { return seen.domains() == 2 })
	cancel()
	<-done
}
