package rootrotation

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// maxReports bounds the answer with all reports, in bytes: ten thousand identities of one agent are less than 2 MiB.
const maxReports = 64 << 20

// Mesh says how to reach what runs, and as whom.
type Mesh struct {
	// Source is an operator's certificate, with the roles authority.admin and rolecall.admin.
	Source interceptors.Source
	// Authority is the service that keeps the reports.
	Authority Peer
	// Services are those that are asked which roots they trust. Several servers behind one name count as one each: a target
	// dns:///NAME:PORT is looked up, and every address is asked.
	Services []Peer
	// Bundles are the bundle files of identities whose certificates were issued with the authority's folder at hand, which no
	// agent reports on.
	Bundles map[spiffeid.ID]string
}

// Peer is a server: a gRPC target and the SPIFFE ID that it must prove to have.
type Peer struct {
	Name   string
	Target string
	ID     spiffeid.ID
}

// check refuses a mesh that would prove nothing.
func (m *Mesh) check() error {
	switch {
	case m == nil || m.Source == nil:
		return errors.New("nobody can be asked without an operator's certificate")
	case m.Authority.Target == "" || m.Authority.ID.IsZero():
		return errors.New("nobody knows what agents have reported but the authority: its address and SPIFFE ID are needed")
	case len(m.Services) == 0:
		return errors.New("not one service is named: name every one, or what it trusts stays unknown")
	}
	return nil
}

// owner returns who asks.
func (m *Mesh) owner() (spiffeid.ID, error) {
	svid, err := m.Source.GetX509SVID()
	if err != nil {
		return spiffeid.ID{}, fmt.Errorf("read the operator's certificate: %w", err)
	}
	return svid.ID, nil
}

// newGuard returns a guard whose handshakes are in nobody's log: some of them are meant to fail.
func newGuard(source interceptors.Source) (*interceptors.Guard, error) {
	return interceptors.New(source, nil, interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
}

// fixed is a certificate and a bundle that do not change.
type fixed struct {
	svid   *x509svid.SVID
	bundle *x509bundle.Bundle
}

// GetX509SVID returns the certificate.
func (f fixed) GetX509SVID() (*x509svid.SVID, error) { return f.svid, nil }

// GetX509BundleForTrustDomain returns the roots of the own trust domain.
func (f fixed) GetX509BundleForTrustDomain(td spiffeid.TrustDomain) (*x509bundle.Bundle, error) {
	return f.bundle.GetX509BundleForTrustDomain(td)
}

// bundleFiles holds the bundle file of each identity against the digest of the present bundle; nil: it is the present one.
func (m *Mesh) bundleFiles(digest [32]byte) map[string]error {
	found := make(map[string]error, len(m.Bundles))
	for id, path := range m.Bundles {
		bundle, err := pki.ReadBundle(path)
		if err == nil && pki.BundleDigest(bundle.X509Authorities()) != digest {
			err = fmt.Errorf("%s is not the present bundle", path)
		}
		found[id.String()] = err
	}
	return found
}

// with connects to one server for the length of f.
func with(guard *interceptors.Guard, p Peer, f func(*grpc.ClientConn) error) (err error) {
	conn, err := guard.NewClient(p.Target, p.ID)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	return f(conn)
}
