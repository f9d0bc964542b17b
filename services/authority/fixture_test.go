package authority_test

import (
	"context"
	"crypto"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.uber.org/goleak"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/pki"
	"example.com/rolecall/services/authority"
)

var domain = spiffeid.RequireTrustDomainFromString("mesh.local")

const roles = `
trustDomain: mesh.local
bindings:
  - role: authority.requester
    members: [spiffe://mesh.local/service/agent]
`

// realm is an authority that serves, and the certificate authority behind it.
type realm struct {
	ca      *pki.CA
	service *nodetest.Service
}

// shared is one certificate authority on disk for all tests: making one takes long on purpose.
var shared struct {
	sync.Once
	dir string
	ca  *pki.CA
	err error
}

func TestMain(m *testing.M) {
	cleanup := goleak.Cleanup(func(code int) {
		if err := os.RemoveAll(shared.dir); err != nil {
			panic(err)
		}
		os.Exit(code)
	})
	goleak.VerifyTestMain(m, cleanup)
}

func sharedCA(t *testing.T) (*pki.CA, string) {
	t.Helper()
	shared.Do(func() {
		if shared.dir, shared.err = os.MkdirTemp("", "rolecall-authority-"); shared.err == nil {
			shared.ca, _, shared.err = pki.OpenOrCreate(shared.dir, pki.Config{TrustDomain: domain})
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.ca, filepath.Join(shared.dir, pki.AuthorityDir)
}

// open starts an authority; its clients get their first certificates from the CA at hand, as `up` does.
func open(t *testing.T, changes ...func(*node.Config)) *realm {
	t.Helper()
	return openWith(t, nil, changes...)
}

// openWith starts an authority that lets requesters ask for these paths.
func openWith(t *testing.T, allow []string, changes ...func(*node.Config)) *realm {
	t.Helper()
	ca, dir := sharedCA(t)
	a, err := authority.Open(authority.Config{Dir: dir, Allow: allow, DNSNames: []string{"*.example.org"}})
	if err != nil {
		t.Fatal(err)
	}
	mesh := nodetest.New(t, roles)
	own := func(c *node.Config) {
		c.Source, c.ID = a.Source(), spiffeid.RequireFromPath(domain, "/service/authority")
	}
	service := mesh.Start(t, "authority", "", a.Setup, append(changes, own)...)
	return &realm{ca: ca, service: service}
}

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
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	id := spiffeid.RequireFromPath(domain, path)
	chain, err := r.ca.Issuers().Issue(pki.Leaf{ID: id, PublicKey: key.Public(), DNSNames: dns})
	if err != nil {
		t.Fatal(err)
	}
	return caller{&x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}, r.ca.Issuers().Bundle()}
}

func (r *realm) client(t *testing.T, c caller) authorityv1.AuthorityServiceClient {
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
	return authorityv1.NewAuthorityServiceClient(conn)
}

func csr(t *testing.T, key crypto.Signer, path string, dns []string, ips ...net.IP) []byte {
	t.Helper()
	if key == nil {
		var err error
		if key, err = pki.NewKey(); err != nil {
			t.Fatal(err)
		}
	}
	der, err := pki.NewCSR(key, spiffeid.RequireFromPath(domain, path), dns, ips)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func within(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), nodetest.Patience)
	t.Cleanup(cancel)
	return ctx
}
