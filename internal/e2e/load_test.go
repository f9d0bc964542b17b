//go:build unix

package e2e_test

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

// sightings counts calls and the certificates that were seen during them. Safe for concurrent use.
type sightings struct {
	mu            sync.Mutex
	calls, failed int
	first         error           // failure
	slowest       time.Duration   // call
	servers       map[string]bool // serial numbers of the server's certificates
	clients       map[string]bool // serial numbers of the clients' certificates
	issuers       map[string]bool // names of the issuers of the server's certificates
}

// load makes calls at a constant pace until ctx ends. A call that is under way then may end.
func (s *sightings) load(ctx context.Context, c *caller, ledger ledgerv1.LedgerServiceClient,
	call func(context.Context, ledgerv1.LedgerServiceClient, ...grpc.CallOption) error,
) {
	tick := time.NewTicker(pace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		var server peer.Peer
		began := time.Now()
		err := call(bounded, ledger, grpc.Peer(&server))
		s.note(c, err, time.Since(began), server)
		cancel()
	}
}

func (s *sightings) note(c *caller, err error, took time.Duration, server peer.Peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.slowest = max(s.slowest, took)
	if err != nil {
		s.failed++
		if s.first == nil {
			s.first = err
		}
	}
	if info, ok := server.AuthInfo.(credentials.TLSInfo); ok {
		leaf := info.State.PeerCertificates[0]
		s.servers[leaf.SerialNumber.Text(16)] = true
		s.issuers[leaf.Issuer.CommonName] = true
	}
	if svid, err := c.source.GetX509SVID(); err == nil {
		s.clients[svid.Certificates[0].SerialNumber.Text(16)] = true
	}
}

// enough tells what is missing of what a load is to have seen.
func (s *sightings) enough(plan rotation) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if servers, issuers := len(s.servers)-1, len(s.issuers)-1; s.calls < plan.calls || servers < plan.leaves || len(s.clients) < 2*plan.leaves || issuers < plan.issuers {
		return fmt.Errorf("%d calls, want %d; the server's certificate was replaced %d times, want %d; %d of clients, want %d; the issuer was replaced %d times, want %d",
			s.calls, plan.calls, servers, plan.leaves, len(s.clients), 2*plan.leaves, issuers, plan.issuers)
	}
	return nil
}

func (s *sightings) report(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	t.Logf("%d unary calls, %d failed, the slowest took %s", s.calls, s.failed, s.slowest.Round(time.Millisecond))
	t.Logf("%d certificates of the server, %d of the clients, of %d issuers", len(s.servers), len(s.clients), len(s.issuers))
	for _, seen := range []map[string]bool{s.servers, s.clients, s.issuers} {
		var names []string
		for name := range seen {
			names = append(names, name)
		}
		slices.Sort(names)
		t.Log(names)
	}
}

// watcher follows an account through as many streams as it takes, each resumed after the last entry of the one before.
type watcher struct {
	ledger  ledgerv1.LedgerServiceClient
	account string

	mu       sync.Mutex
	entries  []string // IDs, in the order in which they came
	connects int
	ends     map[codes.Code]int // how streams ended
}

func (w *watcher) watch(ctx context.Context) {
	between := time.NewTicker(pace) // bounds how often a stream is opened that ends at once
	defer between.Stop()
	for ctx.Err() == nil {
		if err := w.once(ctx); ctx.Err() == nil {
			w.mu.Lock()
			w.ends[status.Code(err)]++
			w.mu.Unlock()
		}
		select {
		case <-between.C:
		case <-ctx.Done():
		}
	}
}

func (w *watcher) once(ctx context.Context) error {
	w.mu.Lock()
	request := &ledgerv1.WatchEntriesRequest{AccountId: w.account}
	if n := len(w.entries); n > 0 {
		request.AfterEntryId = w.entries[n-1]
	}
	w.connects++
	w.mu.Unlock()
	stream, err := w.ledger.WatchEntries(ctx, request)
	if err != nil {
		return err
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		w.mu.Lock()
		w.entries = append(w.entries, response.GetEntry().GetEntryId())
		w.mu.Unlock()
	}
}

// has tells whether so many entries have come.
func (w *watcher) has(n int) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.entries) < n {
		return fmt.Errorf("%d of %d entries have come", len(w.entries), n)
	}
	return nil
}
