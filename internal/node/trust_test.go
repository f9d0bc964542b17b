package node_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	adminv1 "example.com/rolecall/gen/rolecall/admin/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/rolecalltest"
)

const adminRoles = roles + `
  - role: rolecall.admin
    members: [spiffe://mesh.local/operator/alice]
`

func digests(cas ...*rolecalltest.CA) [][]byte {
	var sums [][]byte
	for _, ca := range cas {
		sum := sha256.Sum256(ca.Root().Raw)
		sums = append(sums, sum[:])
	}
	slices.SortFunc(sums, bytes.Compare)
	return sums
}

func TestEveryServiceTellsWhatItTrusts(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, adminRoles)
	source := mesh.CA.Source("/service/users")
	service := mesh.Start(t, "users", "", newSlow().setup, func(cfg *node.Config) { cfg.Source = source })
	client := adminv1.NewAdminServiceClient(mesh.Client(t, "/operator/alice", service))
	_, ready := readiness(t, service)
	check := func(want ...*rolecalltest.CA) {
		t.Helper()
		got, err := client.GetTrust(nodetest.Context(t), &adminv1.GetTrustRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if !slices.EqualFunc(got.GetRootSha256(), digests(want...), bytes.Equal) {
			t.Errorf("roots %x, want %x", got.GetRootSha256(), digests(want...))
		}
		svid, err := source.GetX509SVID()
		if err != nil {
			t.Fatal(err)
		}
		if len(got.GetChain()) != 1 || !bytes.Equal(got.GetChain()[0], svid.Certificates[0].Raw) {
			t.Errorf("a chain of %d certificates, want the one that it shows", len(got.GetChain()))
		}
		if got.GetSpiffeId() != service.ID.String() || got.GetTrustDomain() != "mesh.local" || got.GetPolicyVersion() != ready.Policy.Version {
			t.Errorf("got %v, want %s under policy %s", got, service.ID, ready.Policy.Version)
		}
		if off := time.Since(got.GetTime().AsTime()).Abs(); off > nodetest.Patience {
			t.Errorf("its clock is off by %s", off)
		}
	}
	check(mesh.CA)
	next := rolecalltest.NewCA(t, "mesh.local")
	source.Trust(mesh.CA, next) // as when the bundle of the Workload API grows: no restart, no delay
	check(mesh.CA, next)
	source.Renew(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(time.Hour) })
	check(mesh.CA, next)
}

func TestWhatAServiceTrustsIsToldToAdministratorsOnly(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, adminRoles)
	service := mesh.Start(t, "users", "", newSlow().setup)
	_, err := adminv1.NewAdminServiceClient(mesh.Client(t, "/operator/bob", service)).GetTrust(nodetest.Context(t), &adminv1.GetTrustRequest{})
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("bob got %v, want %s", err, codes.PermissionDenied)
	}
}

// forgetful is a source that has no bundle any more once it is told so.
type forgetful struct {
	interceptors.Source
	gone *atomic.Bool
}

func (f forgetful) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	if f.gone.Load() {
		return nil, errors.New("no bundle")
	}
	return f.Source.GetX509BundleForTrustDomain(td)
}

// Without a bundle the service is not one that trusts nothing and so can be skipped: it has no answer. Whether the guard
// has seen it by then and refuses the caller itself, or the method does, no digest may come out.
func TestAServiceWithoutABundleHasNoAnswer(t *testing.T) {
	t.Parallel()
	mesh := nodetest.New(t, adminRoles)
	source := forgetful{Source: mesh.CA.Source("/service/users"), gone: new(atomic.Bool)}
	service := mesh.Start(t, "users", "", newSlow().setup, func(cfg *node.Config) { cfg.Source = source })
	client := adminv1.NewAdminServiceClient(mesh.Client(t, "/operator/alice", service))
	if _, err := client.GetTrust(nodetest.Context(t), &adminv1.GetTrustRequest{}); err != nil {
		t.Fatal(err)
	}
	source.gone.Store(true)
	answer, err := client.GetTrust(nodetest.Context(t), &adminv1.GetTrustRequest{})
	if code := status.Code(err); answer != nil || code != codes.Unavailable && code != codes.Unauthenticated {
		t.Errorf("got %v, %v; want %s or %s", answer, err, codes.Unavailable, codes.Unauthenticated)
	}
}
