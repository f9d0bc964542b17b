//go:build linux || darwin

package agent

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

// patience is how long a test waits for what should happen at once: long, for a machine that does much else.
const patience = time.Minute

// testSigner signs with a CA in memory whatever passes the CSR gate.
type testSigner struct {
	td     spiffeid.TrustDomain
	issuer *x509.Certificate
	key    crypto.Signer

	mu   sync.Mutex
	life time.Duration // an hour if zero
	err  error         // instead of a certificate
	n    int
}

func (s *testSigner) Sign(_ context.Context, csr []byte) ([]*x509.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return nil, s.err
	}
	request, err := pki.ReadCSR(csr, s.td)
	if err != nil {
		return nil, err
	}
	s.n++
	life := s.life
	if life == 0 {
		life = time.Hour
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(int64(s.n)), NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(life),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{request.ID.URL()}, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
	}, s.issuer, request.PublicKey, s.key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	return []*x509.Certificate{leaf, s.issuer}, err
}

func (s *testSigner) signed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.n
}

func (s *testSigner) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// testAgent is an agent that serves for as long as a test runs.
type testAgent struct {
	*Server
	ca     *rolecalltest.CA
	signer *testSigner
	dir    string
	stop   func()
}

func startAgent(t *testing.T, change func(*Config, *testSigner)) *testAgent {
	t.Helper()
	dir, err := os.MkdirTemp("", "agent") // t.TempDir makes paths that are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ca := rolecalltest.NewCA(t, "mesh.local")
	issuer, key := ca.Intermediate()
	a := &testAgent{ca: ca, signer: &testSigner{td: ca.TrustDomain(), issuer: issuer, key: key}, dir: dir}
	config := Config{TrustDomain: ca.TrustDomain(), Bundle: ca.Bundle(), Signer: a.signer,
		Socket: filepath.Join(dir, "agent.sock"), Control: filepath.Join(dir, "control.sock"),
		Log: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&config, a.signer)
	}
	a.serve(t, config)
	return a
}

func (a *testAgent) serve(t *testing.T, config Config) {
	t.Helper()
	var err error
	if a.Server, err = New(config); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- a.Serve(ctx) }()
	a.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(a.stop)
}

func (a *testAgent) address() string { return "unix://" + a.config.Socket }

func (a *testAgent) id(path string) spiffeid.ID { return a.ca.ID(path) }

// register registers this very process until the test is over.
func (a *testAgent) register(t *testing.T, path string) *Registered {
	t.Helper()
	return a.registerProcess(t, path, os.Getpid())
}

func (a *testAgent) registerProcess(t *testing.T, path string, pid int) *Registered {
	t.Helper()
	registered, err := Register(t.Context(), a.config.Control, Registration{ID: a.id(path), PID: pid, DNSNames: []string{"localhost"}})
	if err != nil {
		t.Fatalf("register as %s: %v", path, err)
	}
	t.Cleanup(func() {
		_ = registered.Close()
		<-registered.Gone()
	})
	a.awaitCertificates(t)
	return registered
}

// awaitCertificates waits until each registration has a certificate, or a reason why it has none: Register does so for a
// moment only.
func (a *testAgent) awaitCertificates(t *testing.T) {
	t.Helper()
	for _, r := range a.registry.list() {
		select {
		case <-r.identity.tried:
		case <-time.After(patience):
			t.Fatalf("nothing was signed for %s", r.identity.id)
		}
	}
}

// pass lets time pass on the agent's clock. Who waits for a renewal looks at it when issuers are revoked, here none.
func (a *testAgent) pass(clock *setClock, by time.Duration) {
	clock.ahead.Add(int64(by))
	a.SetRevokedIssuers(nil)
}

// ownEntries entitles every process of this user to an identity.
func ownEntries(t *testing.T, a *testAgent, path string) []Entry {
	t.Helper()
	selector, err := ParseSelector(fmt.Sprintf("unix:uid:%d", os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	return []Entry{{ID: a.id(path), Selectors: []Selector{selector}}}
}

// dial returns a plain client of the Workload API, which sends the security header only if told so.
func dial(t *testing.T, address string) workload.SpiffeWorkloadAPIClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return workload.NewSpiffeWorkloadAPIClient(conn)
}

func withHeader(ctx context.Context) context.Context {
	return metadata.AppendToOutgoingContext(ctx, securityHeader, "true")
}

// eventually waits for a condition and says how long it took.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	start := time.Now()
	for !holds() {
		if time.Since(start) > patience {
			t.Fatalf("%s: not after %s", what, patience)
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Logf("%s: after %s", what, time.Since(start).Round(time.Millisecond))
}

var errDown = errors.New("the authority is down")
