//go:build unix

package e2e_test

import (
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/internal/mesh"
	"example.com/rolecall/pki"
)

// The load during a rotation: readers and payers, each a program with one connection that makes a call every pace.
const (
	readers, payers = 6, 2
	pace            = 20 * time.Millisecond
	// callTimeout is far more than a call takes, and little enough that one that hangs is one that failed.
	callTimeout = 3 * time.Second
)

// rotation is how long certificates live and how long the load lasts.
type rotation struct {
	leaf, issuer, load time.Duration
	// age is how old the first issuer is when the mesh comes up, so that it is replaced within a short load.
	age time.Duration
}

// soak returns the rotation to run: ROLECALL_SOAK is how long, or 1 for three minutes; without it, a short one.
func soak(t *testing.T) rotation {
	t.Helper()
	value := os.Getenv("ROLECALL_SOAK")
	switch value {
	case "":
		return rotation{leaf: 15 * time.Second, issuer: 90 * time.Second, load: 50 * time.Second, age: 45 * time.Second}
	case "1":
		value = "3m"
	}
	load, err := time.ParseDuration(value)
	if err != nil || load < 3*time.Minute {
		t.Fatalf("ROLECALL_SOAK=%s: a time of 3m or more, or 1 for 3m", value)
	}
	return rotation{leaf: 30 * time.Second, issuer: 3 * time.Minute, load: load}
}

// TestSoakNoCallFailsWhileCertificatesRotate keeps a mesh busy while leaves and issuers are replaced. Clients do not retry
// and do not wait for a connection to be ready.
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
	loadEnds, cancel := context.WithTimeout(t.Context(), plan.load)
	defer cancel()
	seen := &sightings{servers: map[string]bool{}, issuers: map[string]bool{}, clients: map[string]bool{}}
	var clients sync.WaitGroup
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
		caller := running.caller(t, who)
		ledger := ledgerv1.NewLedgerServiceClient(caller.dial(t, "ledger", noRetry))
		clients.Go(func() { seen.load(loadEnds, caller, ledger, call) })
	}
	watched := make(chan *watcher, 1)
	watching, stopWatching := context.WithCancel(t.Context())
	defer stopWatching()
	w := &watcher{ledger: ledgerv1.NewLedgerServiceClient(running.caller(t, "bob").dial(t, "ledger", noRetry)), account: to, ends: map[codes.Code]int{}}
	go func() { w.watch(watching); watched <- w }()

	clients.Wait()
	entries := listEntries(t, running.caller(t, "bob").ledger(t), to)
	await(t, "the stream has caught up", func() error { return w.has(len(entries)) })
	stopWatching()
	<-watched

	seen.report(t)
	t.Logf("stream: %d entries, reconnected %d times: %v", len(w.entries), w.connects-1, w.ends)
	if seen.failed > 0 {
		t.Errorf("%d of %d unary calls failed; the first: %v", seen.failed, seen.calls, seen.first)
	}
	if diff := cmp.Diff(entries, w.entries); diff != "" {
		t.Errorf("the stream lost or repeated entries (-listed +watched):\n%s", diff)
	}
	if len(w.ends) != 1 || w.ends[codes.Unavailable] == 0 {
		t.Errorf("streams ended with %v, want UNAVAILABLE only, which says: come again", w.ends)
	}
	if w.connects < 2 {
		t.Error("the stream was never closed, and so nothing was resumed")
	}
	// Leaves are replaced at about half of their life; the last may be under way.
	if want := int(plan.load/(plan.leaf*55/100)) - 1; len(seen.servers) < want || len(seen.clients) < 2*want {
		t.Errorf("%d certificates of the server and %d of clients were seen, want at least %d and %d", len(seen.servers), len(seen.clients), want, 2*want)
	}
	if len(seen.issuers) < 2 {
		t.Errorf("all certificates were of one issuer, and so none was rotated: %v", seen.issuers)
	}
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
