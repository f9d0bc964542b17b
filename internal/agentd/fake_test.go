//go:build linux || darwin

package agentd

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"log/slog"
	"math/big"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/jwtbundle"
	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
	"example.com/rolecall/rolecalltest"
)

const fakeRoles = `
trustDomain: mesh.local
bindings:
  - role: authority.requester
    members: [spiffe://mesh.local/agent/host1]
`

// fakeAuthority is an authority that says what a test wants it to say. It serves over mutual TLS, behind the guard.
type fakeAuthority struct {
	authorityv1.UnimplementedAuthorityServiceServer
	ca     *rolecalltest.CA
	issuer *x509.Certificate
	key    crypto.Signer
	target string

	mu      sync.Mutex
	bundle  *authorityv1.Bundle
	next    chan struct{}
	issued  *authorityv1.IssueCertificateResponse // what else goes with certificates
	n       int64
	watches int
	reports []*authorityv1.ReportTrustRequest
	joined  map[string]string // by ticket, the key that had it
	change  func(*authorityv1.JoinResponse)
	server  *interceptors.Server
}

func startFake(t *testing.T) *fakeAuthority {
	t.Helper()
	ca := rolecalltest.NewCA(t, "mesh.local")
	f := &fakeAuthority{ca: ca, next: make(chan struct{}), issued: &authorityv1.IssueCertificateResponse{}, joined: map[string]string{}}
	f.issuer, f.key = ca.Intermediate()
	f.bundle = f.bundleOf(t, 10, ca.Bundle())
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f.target = "passthrough:///" + lis.Addr().String()
	f.serve(t, lis)
	return f
}

// serve serves on the listener until the test is over, or stop is called.
func (f *fakeAuthority) serve(t *testing.T, lis net.Listener) (stop func()) {
	t.Helper()
	guard, err := interceptors.New(f.ca.Source("/service/authority"), interceptors.BindingsYAML([]byte(fakeRoles)), interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	server := guard.NewServer()
	authorityv1.RegisterAuthorityServiceServer(server, f)
	done := make(chan error, 1)
	go func() { done <- server.Serve(lis) }()
	f.mu.Lock()
	f.server = server
	f.mu.Unlock()
	stop = sync.OnceFunc(func() {
		server.Stop()
		<-done
		_ = guard.Close()
	})
	t.Cleanup(stop)
	return stop
}

func (f *fakeAuthority) bundleOf(t *testing.T, sequence uint64, roots *x509bundle.Bundle) *authorityv1.Bundle {
	t.Helper()
	keys, err := pki.EncodeBundleDocument(x509bundle.New(f.ca.TrustDomain()), jwtbundle.New(f.ca.TrustDomain()), sequence, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	b := &authorityv1.Bundle{TrustDomain: "mesh.local", Sequence: sequence, JwtKeys: keys, RefreshHintSeconds: 60}
	for _, root := range roots.X509Authorities() {
		b.Roots = append(b.Roots, root.Raw)
	}
	return b
}

// say sends a bundle to whoever watches.
func (f *fakeAuthority) say(b *authorityv1.Bundle) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.bundle = b
	close(f.next)
	f.next = make(chan struct{})
}

func (f *fakeAuthority) sign(csr []byte) ([][]byte, error) {
	request, err := pki.ReadCSR(csr, f.ca.TrustDomain())
	if err != nil {
		return nil, err
	}
	f.n++
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(f.n), NotBefore: time.Now().Add(-time.Second), NotAfter: time.Now().Add(time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true,
		URIs: []*url.URL{request.ID.URL()}, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
	}, f.issuer, request.PublicKey, f.key)
	return [][]byte{der, f.issuer.Raw}, err
}

func (f *fakeAuthority) IssueCertificate(_ context.Context, r *authorityv1.IssueCertificateRequest) (*authorityv1.IssueCertificateResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	chain, err := f.sign(r.GetCsr())
	return &authorityv1.IssueCertificateResponse{Chain: chain, Roots: f.issued.GetRoots(), BundleSequence: f.issued.GetBundleSequence()}, err
}

func (f *fakeAuthority) GetBundle(context.Context, *authorityv1.GetBundleRequest) (*authorityv1.GetBundleResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &authorityv1.GetBundleResponse{Bundle: f.bundle}, nil
}

func (f *fakeAuthority) WatchBundle(_ *authorityv1.WatchBundleRequest, stream grpc.ServerStreamingServer[authorityv1.WatchBundleResponse]) error {
	f.mu.Lock()
	f.watches++
	f.mu.Unlock()
	for {
		f.mu.Lock()
		now, next := f.bundle, f.next
		f.mu.Unlock()
		if err := stream.Send(&authorityv1.WatchBundleResponse{Bundle: now}); err != nil {
			return err
		}
		select {
		case <-next:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (f *fakeAuthority) ReportTrust(_ context.Context, r *authorityv1.ReportTrustRequest) (*authorityv1.ReportTrustResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reports = append(f.reports, r)
	return &authorityv1.ReportTrustResponse{}, nil
}

func (f *fakeAuthority) Join(ctx context.Context, r *authorityv1.JoinRequest) (*authorityv1.JoinResponse, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	request, err := pki.ReadCSR(r.GetCsr(), f.ca.TrustDomain())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	spki, err := x509.MarshalPKIXPublicKey(request.PublicKey)
	if err != nil {
		return nil, err
	}
	ticket := interceptors.CallerFrom(ctx).ID().String()
	if had, ok := f.joined[ticket]; ok && had != string(spki) {
		return nil, interceptors.InvalidField("csr", "the ticket has been redeemed with another key; ask for a new one")
	}
	f.joined[ticket] = string(spki)
	chain, err := f.sign(r.GetCsr())
	response := &authorityv1.JoinResponse{Chain: chain, Bundle: f.bundle}
	if f.change != nil {
		f.change(response)
	}
	return response, err
}

// lastReport returns the latest report, nil if there is none.
func (f *fakeAuthority) lastReport() *authorityv1.ReportTrustRequest {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.reports) == 0 {
		return nil
	}
	return f.reports[len(f.reports)-1]
}
