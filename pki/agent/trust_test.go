//go:build linux || darwin

package agent

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/bundle/spiffebundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/svid/jwtsvid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

func TestTheSameRootsInAnotherOrderAreNoChangeAndOneLessIs(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	td, roots := a.ca.TrustDomain(), []*x509.Certificate{a.ca.Root()}
	for range 3 {
		other, _ := a.ca.Intermediate()
		roots = append(roots, other)
	}
	a.SetBundle(x509bundle.FromX509Authorities(td, roots))
	before := a.trust.Load()
	slices.Reverse(roots)
	a.SetBundle(x509bundle.FromX509Authorities(td, roots))
	if a.trust.Load() != before {
		t.Error("another order was taken for a change")
	}
	a.SetBundle(x509bundle.FromX509Authorities(td, roots[1:]))
	if got, want := a.trust.Load().digest, pki.BundleDigest(roots[1:]); got != want || got == before.digest {
		t.Errorf("after one root went the digest is %x, want %x", got, want)
	}
}

// contextWatcher keeps what WatchX509Context tells.
type contextWatcher struct {
	mu   sync.Mutex
	last *workloadapi.X509Context
	n    int
}

func (w *contextWatcher) OnX509ContextUpdate(c *workloadapi.X509Context) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.n = c, w.n+1
}

func (w *contextWatcher) OnX509ContextWatchError(error) {}

func (w *contextWatcher) bundles() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last == nil {
		return 0
	}
	return w.last.Bundles.Len()
}

func TestFederatedBundlesAreHandedOutBesideTheOwn(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.register(t, "/service/ledger")
	var seen contextWatcher
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	client := a.client(t)
	go func() { done <- client.WatchX509Context(ctx, &seen) }()
	eventually(t, "the own bundle", func() bool { return seen.bundles() == 1 })
	partner := rolecalltest.NewCA(t, "partner.example")
	a.SetFederated([]*spiffebundle.Bundle{spiffebundle.FromX509Bundle(partner.Bundle())})
	eventually(t, "the partner's bundle", func() bool { return seen.bundles() == 2 })
	set, err := client.FetchX509Bundles(within(t))
	if err != nil || set.Len() != 2 {
		t.Fatalf("FetchX509Bundles: %v, %v", set, err)
	}
	if got, err := set.GetX509BundleForTrustDomain(partner.TrustDomain()); err != nil || !got.Equal(partner.Bundle()) {
		t.Errorf("the partner's bundle differs (error %v)", err)
	}
	a.SetFederated(nil)
	eventually(t, "the partner has gone", func() bool { return seen.bundles() == 1 })
	cancel()
	<-done
}

func TestAttackAForeignBundleForTheOwnTrustDomain(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	before := a.trust.Load().digest
	evil := rolecalltest.NewCA(t, "mesh.local")
	a.SetFederated([]*spiffebundle.Bundle{spiffebundle.FromX509Bundle(evil.Bundle())})
	a.SetBundle(rolecalltest.NewCA(t, "evil.local").Bundle())
	a.SetJWTBundle(newTestJWT(t, "x").bundle(rolecalltest.NewCA(t, "evil.local").TrustDomain()))
	if now := a.trust.Load(); now.digest != before || len(now.federatedX509) != 0 || now.jwt != nil {
		t.Errorf("it was taken over: %+v", now)
	}
}

func TestWhatWasHandedOutIsKnownToTheEndOfTheCertificate(t *testing.T) {
	t.Parallel()
	var clock setClock
	a := startAgent(t, func(c *Config, _ *testSigner) { c.now = clock.now }) // certificates live for an hour
	registered := a.register(t, "/service/ledger")
	first := a.trust.Load().digest
	<-a.Changed() // of the first roots
	openStream(t, a)
	stream := openStream(t, a)
	id := a.id("/service/ledger")
	same := func(want ...HandedOut) func() bool {
		return func() bool {
			return cmp.Equal(a.HandedOut(), want, cmp.Comparer(func(x, y HandedOut) bool { return x == y }))
		}
	}
	eventually(t, "two streams", same(HandedOut{id, first, 2}))
	select {
	case <-a.Changed():
	case <-time.After(patience):
		t.Error("nothing was said of the first stream")
	}
	bundle := a.ca.Bundle()
	other, _ := a.ca.Intermediate()
	bundle.AddX509Authority(other)
	a.SetBundle(bundle)
	second := a.trust.Load().digest
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "two streams with the next bundle", same(HandedOut{id, second, 2}))
	select {
	case <-a.Changed():
	case <-time.After(patience):
		t.Error("nothing was said of the next bundle")
	}
	_ = registered.Close() // ends the streams
	eventually(t, "no stream, and a certificate that lives", same(HandedOut{id, second, 0}))
	clock.set(time.Hour)
	if got := a.HandedOut(); len(got) != 0 {
		t.Errorf("after the end of the certificate: %v", got)
	}
}

func TestABundleCountsForTheWorkloadThatTheProcessIsNow(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	a.SetEntries(ownEntries(t, a, "/service/one"))
	stream, err := dial(t, a.address()).FetchX509Bundles(withHeader(within(t)), &workload.X509BundlesRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	of := func(path string) func() bool {
		return func() bool {
			handed := a.HandedOut()
			return len(handed) == 1 && handed[0].ID == a.id(path) && handed[0].Streams == 1
		}
	}
	eventually(t, "it counts for the first", of("/service/one"))
	a.SetEntries(ownEntries(t, a, "/service/two"))
	eventually(t, "it counts for the second", of("/service/two"))
}

func TestRecordsOfEndedStreamsAreBoundedAndStaleOnesComeFirst(t *testing.T) {
	t.Parallel()
	now := time.Now()
	h := newHandouts(func() time.Time { return now })
	ca := rolecalltest.NewCA(t, "mesh.local")
	old, present := [32]byte{1}, [32]byte{2}
	for n := range MaxHandedOut + 10 {
		digest := present
		if n%2 == 0 {
			digest = old
		}
		o := h.stream()
		o.sent(svidStream, nil, []*svid{{id: ca.ID("/s/" + hex.EncodeToString([]byte{byte(n >> 8), byte(n)})), notAfter: now.Add(time.Duration(n+1) * time.Second)}}, digest)
		o.end()
	}
	list := h.list(present)
	if len(list) != MaxHandedOut || len(h.ended) != MaxHandedOut {
		t.Fatalf("%d records, want %d", len(list), MaxHandedOut)
	}
	if list[0].Digest != old || list[len(list)/2-1].Digest != old || list[len(list)-1].Digest != present {
		t.Error("records of the old bundle are not first")
	}
	now = now.Add(time.Hour * 24)
	if list := h.list(present); len(list) != 0 {
		t.Errorf("%d records after all certificates have ended", len(list))
	}
}

// Neither keys nor tokens may reach the log, at whatever level.
func TestAttackKeysInLogs(t *testing.T) {
	t.Parallel()
	var log lockedBuffer
	a, _ := startJWTAgent(t, func(c *Config, s *testSigner) {
		s.life = 2 * time.Second
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug - 4}))
	})
	source := newSource(t, a)
	token, err := a.client(t).FetchJWTSVID(within(t), jwtsvid.Params{Audience: "x"})
	if err != nil {
		t.Fatal(err)
	}
	secrets := []string{token.Marshal(), strings.Split(token.Marshal(), ".")[2]}
	seen := map[string]bool{}
	eventually(t, "three certificates", func() bool {
		current, err := source.GetX509SVID()
		if err == nil {
			der, err := x509.MarshalPKCS8PrivateKey(current.PrivateKey)
			if err != nil {
				t.Fatal(err)
			}
			seen[string(der)] = true
		}
		return len(seen) == 3
	})
	for der := range seen {
		scalar := []byte(der)[36:68] // RFC 5915: the private key itself
		secrets = append(secrets, base64.StdEncoding.EncodeToString(scalar)[3:40], base64.StdEncoding.EncodeToString([]byte(der))[48:88],
			hex.EncodeToString(scalar), string(scalar))
	}
	said := log.String()
	if !strings.Contains(said, "certificate renewed") {
		t.Fatal("the log says nothing")
	}
	for n, secret := range secrets {
		if strings.Contains(strings.ToLower(said), strings.ToLower(secret)) {
			t.Errorf("secret %d is in the log", n)
		}
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestNewEntriesAreInForceAtOnce(t *testing.T) {
	t.Parallel()
	a := startAgent(t, nil)
	if got := fetch(a.config.Socket); got != "PermissionDenied" {
		t.Fatalf("without entries: %q", got)
	}
	a.SetEntries(ownEntries(t, a, "/service/one"))
	stream := openStream(t, a)
	a.SetEntries(ownEntries(t, a, "/service/two"))
	response, err := stream.Recv()
	if err != nil || len(response.GetSvids()) != 1 || response.GetSvids()[0].GetSpiffeId() != "spiffe://mesh.local/service/two" {
		t.Errorf("after the entries changed: %v, %v", response, err)
	}
	a.SetEntries(nil)
	if _, err := stream.Recv(); err == nil || !strings.Contains(err.Error(), "PermissionDenied") {
		t.Errorf("after the entries went: %v, want PermissionDenied", err)
	}
}
