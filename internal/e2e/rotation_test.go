//go:build unix

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// The load during a rotation: readers, payers, who sign their requests, and those who order with a payment that they have
// signed and orders passes on; each a program with one connection that makes a call every pace.
const (
	readers, payers, relayers = 6, 2, 1
	// streams are open all the while beside them.
	streams = 2
	pace    = 20 * time.Millisecond
	// callTimeout is far more than a call takes, and little enough that one that hangs is one that failed.
	callTimeout = 10 * time.Second
)

// rotation is how long certificates live, how long the load lasts at least, and what must have been seen at its end.
type rotation struct {
	leaf, issuer, load time.Duration
	// age is how old the first issuer is when the mesh comes up, so that it is replaced within a short load.
	age time.Duration
	// calls, and how often the certificate of a server, the issuer of these certificates, and the root were replaced.
	calls, leaves, issuers, roots int
}

// soak returns the rotation to run: ROLECALL_SOAK is how long the load lasts; without it, a short one.
func soak(t *testing.T) rotation {
	t.Helper()
	value := os.Getenv("ROLECALL_SOAK")
	if value == "" {
		return rotation{leaf: 15 * time.Second, issuer: 90 * time.Second, load: 50 * time.Second, age: 45 * time.Second, calls: 2000, leaves: 4, issuers: 1, roots: 1}
	}
	const least = 7 * time.Minute
	load, err := time.ParseDuration(value)
	if err != nil || load < least {
		t.Fatalf("ROLECALL_SOAK=%s: a time of %s or more", value, least)
	}
	return rotation{leaf: 20 * time.Second, issuer: 2 * time.Minute, load: load, calls: 100_000, leaves: 20, issuers: 3, roots: 1}
}

// TestSoakNoCallFailsWhileCertificatesRotate keeps a mesh busy while leaves and issuers are replaced by themselves and the
// root by an operator. Clients do not retry and do not wait for a connection to be ready.
func TestSoakNoCallFailsWhileCertificatesRotate(t *testing.T) {
	t.Parallel()
	plan := soak(t)
	buildRolecall(t) // which may take longer than an issuer lives
	dir := filepath.Join(t.TempDir(), "mesh")
	if plan.age > 0 {
		makeOlderCA(t, dir, plan)
	}
	running := startMeshIn(t, dir, "--leaf-ttl", plan.leaf.String(), "--issuer-ttl", plan.issuer.String())
	from, to := openAccounts(t, running.caller(t, "alice").ledger(t), "")

	noRetry := grpc.WithDisableRetry()
	loading, endLoad := context.WithCancel(t.Context())
	defer endLoad()
	seen := &sightings{servers: map[string]bool{}, issuers: map[string]bool{}, clients: map[string]bool{}}
	var clients sync.WaitGroup
	// Half of the readers call on behalf of a user, whose tokens are verified with keys that a certificate vouches for.
	dave := newUserSession(t, running.caller(t, "bob"), running.sampleUser(t, "dave"))
	await(t, "the ledger knows the keys of tokens", func() error {
		return dave.readBalance(to)(t.Context(), running.caller(t, "bob").ledger(t))
	})
	clients.Go(func() { dave.keep(loading) })
	for n := range readers + payers {
		who, call := "bob", func(ctx context.Context, ledger ledgerv1.LedgerServiceClient, opts ...grpc.CallOption) error {
			_, err := ledger.GetBalance(ctx, &ledgerv1.GetBalanceRequest{AccountId: to}, opts...)
			return err
		}
		if n < payers {
			who, call = "alice", func(ctx context.Context, ledger ledgerv1.LedgerServiceClient, opts ...grpc.CallOption) error {
				_, err := ledger.Transfer(ctx, &ledgerv1.TransferRequest{FromAccount: from, ToAccount: to, Amount: euro(1)}, opts...)
				return err
			}
		}
		if n >= payers && n%2 == 0 {
			call = dave.readBalance(to)
		}
		caller := running.caller(t, who)
		ledger := ledgerv1.NewLedgerServiceClient(caller.dial(t, "ledger", noRetry))
		clients.Go(func() { seen.load(loading, caller, ledger, call) })
	}
	for range relayers {
		caller := running.caller(t, "alice")
		order := signedOrder(running.relayed(t, caller, noRetry), dave, from, to)
		clients.Go(func() { seen.load(loading, caller, nil, order) })
	}
	watching, stopWatching := context.WithCancel(t.Context())
	defer stopWatching()
	var watched sync.WaitGroup
	watchers := make([]*watcher, streams)
	for n := range watchers {
		w := &watcher{ledger: ledgerv1.NewLedgerServiceClient(running.caller(t, "bob").dial(t, "ledger", noRetry)), account: to, ends: map[codes.Code]int{}}
		watchers[n] = w
		watched.Go(func() { w.watch(watching) })
	}

	lasted, cancel := context.WithTimeout(t.Context(), plan.load)
	defer cancel()
	firstRoot := readFile(t, running.file.Bundle)
	rotateRoot(t, running)
	<-lasted.Done()
	awaitFor(t, "enough calls were made, under enough certificates", rootStep, func() error { return seen.enough(plan) })
	endLoad()
	clients.Wait()
	dave.report(t)
	entries := listEntries(t, running.caller(t, "bob").ledger(t), to)
	for _, w := range watchers {
		await(t, "the stream has caught up", func() error { return w.has(len(entries)) })
	}
	stopWatching()
	watched.Wait()

	seen.report(t)
	if seen.failed > 0 {
		t.Errorf("%d of %d unary calls failed; the first: %v", seen.failed, seen.calls, seen.first)
	}
	for _, w := range watchers {
		t.Logf("stream: %d entries, opened again %d times: %v", len(w.entries), w.connects-1, w.ends)
		if !slices.Equal(entries, w.entries) {
			t.Errorf("the stream lost or repeated entries: %d came, %d are listed", len(w.entries), len(entries))
		}
		if len(w.ends) != 1 || w.ends[codes.Unavailable] == 0 {
			t.Errorf("streams ended with %v, want UNAVAILABLE only, which says: come again", w.ends)
		}
	}
	if lastRoot := readFile(t, running.file.Bundle); lastRoot == firstRoot || len(certificatesIn(t, running.file.Bundle)) != 1 {
		t.Errorf("the bundle is not the new root alone:\n%s", lastRoot)
	}
	shown := running.caller(t, "bob").shown(t, "ledger")
	t.Logf("at the end the ledger shows a certificate of %s under the new root", shown.Issuer)
}

// makeOlderCA makes the certificate authority of a mesh's folder as if that had been done some time ago.
func makeOlderCA(t *testing.T, dir string, plan rotation) {
	t.Helper()
	d, err := mesh.Create(dir)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = pki.OpenOrCreate(d.Path(), pki.Config{
		TrustDomain: spiffeid.RequireTrustDomainFromString("mesh.local"), LeafLife: plan.leaf, IssuerLife: plan.issuer,
		Now: func() time.Time { return time.Now().Add(-plan.age) },
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listEntries returns the IDs of all entries of an account.
func listEntries(t *testing.T, ledger ledgerv1.LedgerServiceClient, account string) []string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), upTimeout)
	defer cancel()
	var ids []string
	for token, more := "", true; more; more = token != "" {
		page, err := ledger.ListEntries(ctx, &ledgerv1.ListEntriesRequest{AccountId: account, PageSize: 1000, PageToken: token})
		if err != nil {
			t.Fatalf("list entries after %d: %v", len(ids), err)
		}
		for _, e := range page.GetEntries() {
			ids = append(ids, e.GetEntryId())
		}
		token = page.GetNextPageToken()
	}
	return ids
}
