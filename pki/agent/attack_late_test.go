//go:build linux || darwin

package agent

import (
	"context"
	"crypto/x509"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// gatedSigner says when it is asked and signs when it is let.
type gatedSigner struct {
	*testSigner
	asked, open chan struct{}
}

func (g gatedSigner) Sign(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	g.asked <- struct{}{}
	<-g.open
	return g.testSigner.Sign(ctx, csr)
}

// grants are the ways in which this process can have an identity; what they return takes it back.
var grants = map[string]func(*testing.T, *testAgent) (takeBack func()){
	"an entry": func(t *testing.T, a *testAgent) func() {
		a.SetEntries(ownEntries(t, a, "/service/ledger"))
		return func() { a.SetEntries(nil) }
	},
	"a registration": func(t *testing.T, a *testAgent) func() {
		began, err := StartTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		registration, err := a.registry.register(process{os.Getpid(), began}, names{id: a.id("/service/ledger")})
		if err != nil {
			t.Fatal(err)
		}
		return func() { a.registry.remove(registration) }
	},
}

func TestAttackAnIdentityThatIsTakenBackWhileItsCertificateIsSigned(t *testing.T) {
	t.Parallel()
	for name, grant := range grants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := gatedSigner{asked: make(chan struct{}, 2), open: make(chan struct{})}
			a := startAgent(t, func(c *Config, s *testSigner) { g.testSigner = s; c.Signer = g })
			takeBack := grant(t, a)
			stream, err := dial(t, a.address()).FetchX509SVID(withHeader(within(t)), &workload.X509SVIDRequest{})
			if err != nil {
				t.Fatal(err)
			}
			<-g.asked
			eventually(t, "the stream waits for the certificate", func() bool { return a.subjects.attesting.Load() > 0 && holders(a) > 0 })
			takeBack()
			close(g.open)
			if got, err := stream.Recv(); status.Code(err) != codes.PermissionDenied {
				t.Errorf("%d certificates came (%v), want PermissionDenied", len(got.GetSvids()), err)
			}
		})
	}
}

// holders counts the identities that streams hold.
func holders(a *testAgent) int {
	a.subjects.mu.Lock()
	defer a.subjects.mu.Unlock()
	return len(a.subjects.holders)
}

func TestAttackAnIdentityThatIsTakenBackWhileItsTokenIsSigned(t *testing.T) {
	t.Parallel()
	for name, grant := range grants {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := newTestJWT(t, "first")
			a := startAgent(t, func(c *Config, _ *testSigner) { c.JWT = j })
			j.hook = grant(t, a)
			request := &workload.JWTSVIDRequest{Audience: []string{"orders"}}
			got, err := dial(t, a.address()).FetchJWTSVID(withHeader(within(t)), request)
			if status.Code(err) != codes.PermissionDenied || j.signed() != 1 {
				t.Errorf("%d tokens came (%v) and %d were signed, want PermissionDenied after one", len(got.GetSvids()), err, j.signed())
			}
		})
	}
}

func TestAWorkloadIsNotToldWhyTheAuthoritySignsNothing(t *testing.T) {
	t.Parallel()
	a := startAgent(t, func(_ *Config, s *testSigner) { s.fail(errors.New("secret of the authority")) })
	a.SetEntries(ownEntries(t, a, "/service/ledger"))
	stream, err := dial(t, a.address()).FetchX509SVID(withHeader(within(t)), &workload.X509SVIDRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "secret") {
		t.Errorf("got %v, want Unavailable without the reason", err)
	}
}
