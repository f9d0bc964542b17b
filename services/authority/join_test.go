package authority_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

// join asks for the agent of a ticket's name.
func (r *realm) join(t *testing.T, ticket caller, key crypto.Signer) (*authorityv1.JoinResponse, error) {
	t.Helper()
	path := strings.Replace(ticket.ID.Path(), "/join/", "/agent/", 1)
	return r.client(t, ticket).Join(within(t), &authorityv1.JoinRequest{Csr: csr(t, key, path, nil)})
}

func TestATicketBecomesAnAgent(t *testing.T) {
	t.Parallel()
	var log logged
	r := open(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	ticket, key := r.caller(t, "/join/host2"), newKey(t)
	response, err := r.join(t, ticket, key)
	if err != nil {
		t.Fatal(err)
	}
	chain := parse(t, response.GetChain())
	bundle, err := pki.NewBundle(parse(t, response.GetBundle().GetRoots()))
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := x509svid.Verify(chain, bundle)
	if err != nil || id.String() != "spiffe://mesh.local/agent/host2" || !chain[0].PublicKey.(*ecdsa.PublicKey).Equal(key.Public()) {
		t.Fatalf("got %s, %v, want an agent over its own key", id, err)
	}
	if response.GetBundle().GetSequence() == 0 || !bundle.Equal(r.issuers.Bundle()) {
		t.Errorf("got the bundle %v, want the CA's, with a number", response.GetBundle())
	}
	// What came out is good for what agents do.
	agent := r.client(t, caller{&x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}, bundle})
	if _, err := agent.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/service/billing", nil)}); err != nil {
		t.Errorf("the new agent asks for a service: %v", err)
	}
	if _, err := agent.IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: csr(t, nil, "/agent/host2", nil)}); err != nil {
		t.Errorf("the new agent renews itself: %v", err)
	}
	// The answer was lost on the way: the same key comes again. Then somebody else finds the file.
	if again, err := r.join(t, ticket, key); err != nil || bytes.Equal(again.GetChain()[0], response.GetChain()[0]) {
		t.Errorf("the same key again: %v, want one more certificate", err)
	}
	if _, err := r.join(t, ticket, newKey(t)); verdict(err) != "InvalidArgument INVALID_FIELD" || !strings.Contains(err.Error(), "another key") {
		t.Errorf("another key: got %v, want a refusal that says so", err)
	}
	if _, err := r.join(t, ticket, ticket.PrivateKey); verdict(err) != "InvalidArgument INVALID_FIELD" {
		t.Errorf("the ticket's own key: got %v, want a refusal", err)
	}
	if !strings.Contains(log.text(), "presented again with another key") || strings.Count(log.text(), "certificate refused") != 2 {
		t.Errorf("the log does not tell of the two refusals:\n%s", log.text())
	}
	// After a restart the ticket is still spent.
	if err := r.service.Stop(); err != nil {
		t.Fatal(err)
	}
	r = start(t, r.issuers, authority.Config{Dir: r.dir})
	if _, err := r.join(t, ticket, newKey(t)); verdict(err) != "InvalidArgument INVALID_FIELD" {
		t.Errorf("another key after a restart: got %v, want a refusal", err)
	}
	if _, err := r.join(t, ticket, key); err != nil {
		t.Errorf("the first key after a restart: %v", err)
	}
}

// A hundred thieves and the owner come at once, with a key each, to two processes that share the directory.
func TestAttackAOneTimeThingRedeemedBy100AtOnce(t *testing.T) {
	t.Parallel()
	r := open(t)
	other := start(t, r.issuers, authority.Config{Dir: r.dir})
	ticket := r.caller(t, "/join/host2")
	clients := []authorityv1.AuthorityServiceClient{r.client(t, ticket), other.client(t, ticket)}
	requests := make([][]byte, 100)
	for i := range requests {
		requests[i] = csr(t, newKey(t), "/agent/host2", nil)
	}
	var all sync.WaitGroup
	begin, errs := make(chan struct{}), make([]error, len(requests))
	for i, request := range requests {
		all.Go(func() {
			<-begin
			_, errs[i] = clients[i%2].Join(within(t), &authorityv1.JoinRequest{Csr: request})
		})
	}
	began := time.Now()
	close(begin)
	all.Wait()
	won := []int{}
	for i, err := range errs {
		switch {
		case err == nil:
			won = append(won, i)
		case verdict(err) != "InvalidArgument INVALID_FIELD":
			t.Errorf("%d: %v", i, err)
		}
	}
	t.Logf("%d at once, %d got a certificate, in %s", len(requests), len(won), time.Since(began).Round(time.Millisecond))
	if len(won) != 1 {
		t.Fatalf("%v got a certificate, want exactly one", won)
	}
	for i, request := range requests {
		_, err := clients[i%2].Join(within(t), &authorityv1.JoinRequest{Csr: request})
		if (err == nil) != (i == won[0]) {
			t.Errorf("%d comes again: %v; %d had won", i, err, won[0])
		}
	}
	until(t, "nothing is left behind", func() bool { // other tests on the common CA write tickets too
		left, err := filepath.Glob(filepath.Join(r.dir, "tickets", ".*"))
		if err != nil {
			t.Fatal(err)
		}
		return len(left) == 0
	})
}

// Whoever comes with a ticket of yesterday does not even get a connection.
func TestAttackATicketThatHasExpired(t *testing.T) {
	t.Parallel()
	expired := callerOf(t, old.open(t).Issuers(), pki.Leaf{ID: spiffeid.RequireFromPath(domain, "/join/host2"), Life: 10 * time.Minute})
	var log logged
	r := openOld(t, func(c *node.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
	if err := r.raw(t, expired); status.Code(err) != codes.Unavailable && status.Code(err) != codes.Unauthenticated {
		t.Errorf("got %v, want no connection", err)
	}
	if log.signatures() > 0 {
		t.Errorf("the authority signed:\n%s", log.text())
	}
}

// Half a file (a full disk, a crash of another program) serves nobody, not even the right one.
func TestADamagedTicketFileIsNoSecondChance(t *testing.T) {
	t.Parallel()
	r := open(t)
	ticket := r.caller(t, "/join/host2")
	folder := filepath.Join(r.dir, "tickets") // its name is the serial number: no other test's ticket
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	serial := fmt.Sprintf("%x", ticket.Certificates[0].SerialNumber)
	if err := os.WriteFile(filepath.Join(folder, serial), []byte(`{"ticket":`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := r.join(t, ticket, newKey(t)); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v, want %s", err, codes.Unavailable)
	}
}

// What is secret does not reach the log, not even when it is refused.
func TestAttackKeysAndTicketsInTheLog(t *testing.T) {
	t.Parallel()
	var log logged
	r := open(t, func(c *node.Config) {
		c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	ticket, key, agent := r.caller(t, "/join/host2"), newKey(t), r.caller(t, "/service/agent")
	request := csr(t, key, "/agent/host2", nil)
	for range 2 {
		if _, err := r.client(t, ticket).Join(within(t), &authorityv1.JoinRequest{Csr: request}); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = r.join(t, ticket, newKey(t)) // refused
	token, err := r.client(t, agent).IssueJwtSvid(within(t), &authorityv1.IssueJwtSvidRequest{SpiffeId: "spiffe://mesh.local/service/billing", Audience: []string{"x"}})
	if err != nil {
		t.Fatal(err)
	}
	_, _ = r.client(t, agent).IssueCertificate(within(t), &authorityv1.IssueCertificateRequest{Csr: append(request, 1)}) // refused
	credential, err := os.ReadFile(filepath.Join(r.dir, "credential"))
	if err != nil {
		t.Fatal(err)
	}
	text := log.text()
	for what, secret := range map[string]string{
		"token": token.GetToken(), "signature of the token": token.GetToken()[strings.LastIndex(token.GetToken(), ".")+1:],
		"CSR": string(request), "CSR in hex": hex.EncodeToString(request)[:64], "credential": strings.TrimSpace(string(credential)),
		"ticket": hex.EncodeToString(ticket.Certificates[0].Raw)[:64], "PEM": "-----BEGIN",
	} {
		if strings.Contains(text, secret) {
			t.Errorf("the log holds the %s:\n%s", what, text)
		}
	}
	if !strings.Contains(text, "JWT-SVID signed") || !strings.Contains(text, "certificate refused") {
		t.Errorf("the log does not tell what was done:\n%s", text)
	}
}
