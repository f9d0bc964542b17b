package authority_test

import (
	"crypto"
	"log/slog"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// caller is a workload with a certificate of the CA. It implements interceptors.Source.
type caller struct {
	*x509svid.SVID
	bundle *x509bundle.Bundle
}

func (c caller) GetX509SVID() (*x509svid.SVID, error) { return c.SVID, nil }
func (c caller) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return c.bundle.GetX509BundleForTrustDomain(td)
}

func (r *realm) caller(t *testing.T, path string, dns ...string) caller {
	t.Helper()
	return callerOf(t, r.issuers, pki.Leaf{ID: spiffeid.RequireFromPath(domain, path), DNSNames: dns})
}

// callerOf is a workload whose certificate is just so.
func callerOf(t *testing.T, issuers *pki.Issuers, leaf pki.Leaf) caller {
	t.Helper()
	key := newKey(t)
	leaf.PublicKey = key.Public()
	chain, err := issuers.Issue(leaf)
	if err != nil {
		t.Fatal(err)
	}
	return caller{&x509svid.SVID{ID: leaf.ID, Certificates: chain, PrivateKey: key}, issuers.Bundle()}
}

func newKey(t *testing.T) crypto.Signer {
	t.Helper()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func (r *realm) client(t *testing.T, c caller) authorityv1.AuthorityServiceClient {
	t.Helper()
	return authorityv1.NewAuthorityServiceClient(r.conn(t, c))
}

func (r *realm) conn(t *testing.T, c caller) *grpc.ClientConn {
	t.Helper()
	guard, err := interceptors.New(c, nil, interceptors.Audit(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = guard.Close() })
	conn, err := guard.NewClient("passthrough:///"+r.service.Addr, r.service.ID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
