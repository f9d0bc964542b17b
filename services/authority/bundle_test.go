package authority_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

type bundleStream = grpc.ServerStreamingClient[authorityv1.WatchBundleResponse]

func (r *realm) watch(t *testing.T, path string) bundleStream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	stream, err := r.client(t, r.caller(t, path)).WatchBundle(ctx, &authorityv1.WatchBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func next(t *testing.T, stream bundleStream) *authorityv1.Bundle {
	t.Helper()
	response, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return response.GetBundle()
}

// end reads what is left, which other tests on the common CA may have caused, and returns why the stream ended.
func end(stream bundleStream) error {
	for {
		if _, err := stream.Recv(); err != nil {
			return err
		}
	}
}

func TestEveryWorkloadMayReadTheBundle(t *testing.T) {
	t.Parallel()
	r := open(t)
	response, err := r.client(t, r.caller(t, "/operator/carol")).GetBundle(within(t), &authorityv1.GetBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	bundle, err := pki.NewBundle(parse(t, response.GetRoots()))
	if err != nil || !bundle.Equal(r.issuers.Bundle()) || response.GetTrustDomain() != "mesh.local" || response.GetRefreshHintSeconds() != 60 {
		t.Errorf("got %v (%v), want the CA's bundle, to be asked for again in 60 s", response, err)
	}
	if b := response.GetBundle(); b.GetSequence() == 0 || b.GetTrustDomain() != "mesh.local" || len(b.GetRoots()) != 1 || b.GetRefreshHintSeconds() != 60 {
		t.Errorf("got the bundle %v", b)
	}
}

func TestAStreamStartsWithTheBundleAndTellsOfEachChange(t *testing.T) {
	t.Parallel()
	r := openOwn(t)
	stream := r.watch(t, "/service/ledger")
	first := next(t, stream)
	if !bytes.Equal(first.GetRoots()[0], r.root.Certificate().Raw) || first.GetSequence() == 0 || len(first.GetRevokedIssuers()) != 0 {
		t.Errorf("at first: %v", first)
	}
	// Another process, which has the directory too, prepares a new root.
	process, err := pki.OpenIssuers(r.dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := process.PrepareRoot(foreign.open(t).Root().Certificate(), nil); err != nil {
		t.Fatal(err)
	}
	second := next(t, stream)
	t.Logf("told of the new root after %s", time.Since(began).Round(time.Millisecond))
	if second.GetSequence() <= first.GetSequence() || len(second.GetRoots()) != 2 {
		t.Errorf("then: %v, want two roots under a higher number than %d", second, first.GetSequence())
	}
}

// The number grows with each start: what was restored from a backup is not older than what agents have for ever.
func TestARestartGivesTheBundleANewNumber(t *testing.T) {
	t.Parallel()
	r := open(t)
	first := next(t, r.watch(t, "/service/ledger"))
	if err := r.service.Stop(); err != nil {
		t.Fatal(err)
	}
	again := next(t, start(t, r.issuers, authority.Config{Dir: r.dir}).watch(t, "/service/ledger"))
	if again.GetSequence() <= first.GetSequence() || !bytes.Equal(again.GetRoots()[0], first.GetRoots()[0]) {
		t.Errorf("first %v, then %v: want the same under a higher number", first, again)
	}
}

func TestAStreamEndsWhenTheAuthorityStops(t *testing.T) {
	t.Parallel()
	r := open(t)
	stream := r.watch(t, "/service/ledger")
	next(t, stream)
	began := time.Now()
	r.service.Begin()
	if err := end(stream); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want %s", err, codes.Unavailable)
	}
	if err := r.service.Stop(); err != nil {
		t.Error(err)
	}
	t.Logf("stopped within %s", time.Since(began).Round(time.Millisecond))
}

// A client that does not read is sent what fits into its window; when it reads again the newest is near.
func TestASlowReaderIsBoundedAndHoldsUpNobody(t *testing.T) {
	t.Parallel()
	r := open(t)
	slow, quick := r.watch(t, "/service/ledger"), r.watch(t, "/service/billing")
	next(t, slow)
	last := next(t, quick)
	const changes = 800
	for range changes {
		if err := r.authority.Renumber(); err != nil {
			t.Fatal(err)
		}
		if now := next(t, quick); now.GetSequence() <= last.GetSequence() {
			t.Fatalf("%d after %d", now.GetSequence(), last.GetSequence())
		} else {
			last = now
		}
	}
	read := 0
	for now := uint64(0); now < last.GetSequence(); read++ {
		now = next(t, slow).GetSequence()
	}
	t.Logf("%d changes; who reads at once saw the last one, the slow one read %d until it had it", changes, read)
	if read > changes/2 {
		t.Errorf("%d messages were kept for who did not read", read)
	}
}

func TestAWatcherThatLeavesIsForgotten(t *testing.T) {
	t.Parallel()
	r := open(t)
	ctx, cancel := context.WithCancel(t.Context())
	stream, err := r.client(t, r.caller(t, "/service/ledger")).WatchBundle(ctx, &authorityv1.WatchBundleRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next(t, stream)
	cancel()
	if err := end(stream); status.Code(err) != codes.Canceled {
		t.Errorf("got %v", err)
	} // that its goroutines are gone is checked at the end of all tests
}

func TestAJWTOfTheAuthorityIsVerifiedWithTheKeysOfItsBundle(t *testing.T) {
	t.Parallel()
	r := open(t)
	for _, c := range []struct{ who, id string }{
		{"/service/agent", "spiffe://mesh.local/service/billing"},
		{"/service/ledger", "spiffe://mesh.local/service/ledger"},
	} {
		t.Run(c.who+" asks for "+c.id, func(t *testing.T) {
			client := r.client(t, r.caller(t, c.who))
			response, err := client.IssueJwtSvid(within(t), &authorityv1.IssueJwtSvidRequest{SpiffeId: c.id, Audience: []string{"shop", "till", strings.Repeat("a", pki.MaxAudienceSize)}})
			if err != nil {
				t.Fatal(err)
			}
			got, err := client.GetBundle(within(t), &authorityv1.GetBundleRequest{})
			if err != nil {
				t.Fatal(err)
			}
			keys, err := pki.ParseBundleDocument(domain, got.GetBundle().GetJwtKeys())
			if err != nil {
				t.Fatalf("keys %s: %v", got.GetBundle().GetJwtKeys(), err)
			}
			svid, err := jwtsvid.ParseAndValidate(response.GetToken(), keys.JWTBundle(), []string{"till"})
			if err != nil || svid.ID.String() != c.id || !svid.Expiry.Equal(response.GetExpiresAt().AsTime()) {
				t.Errorf("go-spiffe reads %v, %v; want %s until %s", svid, err, c.id, response.GetExpiresAt().AsTime())
			}
			if left := time.Until(svid.Expiry); left > 5*time.Minute || left < time.Minute {
				t.Errorf("it lives another %s, want 5 minutes at most", left)
			}
		})
	}
}

// The clock ran two days ahead when the last number was given, and then the folder is put back to a backup of an hour ago,
// while the authority runs: what agents hold has the higher number, and they take nothing lower.
func TestTheNumberOfTheBundleNeverGoesBackWhileTheAuthorityRuns(t *testing.T) {
	t.Parallel()
	r := openOwn(t)
	client := r.client(t, r.caller(t, "/service/ledger"))
	sequence := func() uint64 {
		response, err := client.GetBundle(within(t), &authorityv1.GetBundleRequest{})
		if err != nil {
			t.Fatal(err)
		}
		return response.GetBundle().GetSequence()
	}
	state := filepath.Join(r.dir, "state.json")
	stored, err := os.ReadFile(state)
	if err != nil {
		t.Fatal(err)
	}
	put := func(sequence uint64) { // in one step, as whoever restores should
		data := regexp.MustCompile(`"sequence": \d+`).ReplaceAll(stored, fmt.Appendf(nil, `"sequence": %d`, sequence))
		if err := errors.Join(os.WriteFile(state+".new", data, 0o600), os.Rename(state+".new", state)); err != nil {
			t.Fatal(err)
		}
	}
	ahead := uint64(time.Now().Add(48 * time.Hour).Unix())
	put(ahead)
	until(t, "the number of the clock that ran ahead", func() bool { return sequence() >= ahead })
	before := sequence()
	put(uint64(time.Now().Add(-time.Hour).Unix()))
	until(t, "another number", func() bool { return sequence() != before })
	if after := sequence(); after <= before {
		t.Errorf("sequence %d after %d: lower", after, before)
	}
}
