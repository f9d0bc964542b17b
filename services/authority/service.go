// Package authority is the service that holds the issuer key: it signs the certificates of the trust domain's workloads.
//
// A workload renews its own identity with a CSR over a new key. Whoever holds the role authority.requester, as the agent
// does, asks for the identities of others, within what Config allows. The root is not here: the issuers' certificates and
// encrypted keys lie in the directory that package pki describes, are put there by whoever has the root, and are read
// again every few seconds. The authority signs its own certificate.
package authority

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/pki"
)

// refreshEvery is how often the directory is read: an issuer is prepared long before its turn, so seconds do.
const refreshEvery = 2 * time.Second

// refreshHint is how long clients wait before they ask for the bundle again.
const refreshHint = time.Minute

// Config describes an authority. Only Dir is needed.
type Config struct {
	// Dir holds bundle.pem, credential and issuers/.
	Dir string
	// LeafLife is how long certificates live; 24 h if zero, a sixth of the issuer's life at most.
	LeafLife time.Duration
	// Allow are the SPIFFE IDs that requesters may ask for, as paths in which "*" is one whole segment; /service/* if empty.
	// The authority's own ID and operators are never among them.
	Allow []string
	// DNSNames are names that requesters may ask for beside localhost, NAME and NAME.TRUST-DOMAIN of /service/NAME; a
	// leading "*." stands for one label.
	DNSNames []string
	// Log takes the operational log until Setup brings the node's. nil: slog.Default().
	Log *slog.Logger
}

// Authority implements authority.v1. Safe for concurrent use.
type Authority struct {
	authorityv1.UnimplementedAuthorityServiceServer
	issuers  *pki.Issuers
	life     time.Duration
	entitled entitlement
	source   *pki.Source
	log      *slog.Logger
}

// Open reads the issuers and signs the authority's own certificate.
func Open(cfg Config) (*Authority, error) {
	if cfg.LeafLife == 0 {
		cfg.LeafLife = pki.DefaultLeafLife
	}
	if cfg.LeafLife < pki.MinLeafLife {
		return nil, fmt.Errorf("open authority: leaf life %s is too short: %s at least", cfg.LeafLife, pki.MinLeafLife)
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	issuers, err := pki.OpenIssuers(cfg.Dir, nil)
	if err != nil {
		return nil, err
	}
	id, err := spiffeid.FromPath(issuers.TrustDomain(), "/service/authority")
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	own, err := pki.NewSource(issuers, pki.Leaf{ID: id, Life: cfg.LeafLife,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}})
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	entitled, err := newEntitlement(issuers.TrustDomain(), id, cfg.Allow, cfg.DNSNames)
	if err != nil {
		return nil, fmt.Errorf("open authority: %w", err)
	}
	return &Authority{issuers: issuers, life: cfg.LeafLife, entitled: entitled, source: own, log: cfg.Log}, nil
}

// Source returns the authority's own certificate, which renews itself, and the roots that it trusts: what its node runs on.
func (a *Authority) Source() interceptors.Source { return a.source }

// Setup registers the authority on a node.
func (a *Authority) Setup(_ context.Context, n *node.Node) error {
	a.log = n.Log
	authorityv1.RegisterAuthorityServiceServer(n.Server, a)
	n.Go(a.keepFresh)
	return nil
}

// IssueCertificate signs one certificate for a CSR, if the caller is entitled to the names in it.
func (a *Authority) IssueCertificate(ctx context.Context, req *authorityv1.IssueCertificateRequest) (*authorityv1.IssueCertificateResponse, error) {
	request, err := pki.ReadCSR(req.GetCsr(), a.issuers.TrustDomain())
	if err != nil {
		return nil, interceptors.InvalidField("csr", err.Error())
	}
	caller := interceptors.CallerFrom(ctx)
	if request.ID == caller.ID() {
		err = checkRenewal(ctx, request)
	} else {
		err = a.entitled.check(caller, request)
	}
	if err != nil {
		a.log.WarnContext(ctx, "certificate refused", "requester", caller.ID(), "id", request.ID, "error", err)
		return nil, err
	}
	chain, err := a.issuers.Issue(pki.Leaf{ID: request.ID, DNSNames: request.DNSNames, IPAddresses: request.IPAddresses,
		PublicKey: request.PublicKey, Life: a.life})
	if err != nil {
		a.log.ErrorContext(ctx, "certificate not signed", "requester", caller.ID(), "id", request.ID, "error", err)
		return nil, status.Error(codes.Unavailable, "the authority cannot sign at present; its log says why")
	}
	a.log.InfoContext(ctx, "certificate signed", "requester", caller.ID(), "id", request.ID,
		"serial", fmt.Sprintf("%x", chain[0].SerialNumber), "not_after", chain[0].NotAfter)
	return &authorityv1.IssueCertificateResponse{
		Chain: raw(chain), NotAfter: timestamppb.New(chain[0].NotAfter), Roots: raw(a.issuers.Bundle().X509Authorities()),
	}, nil
}

// GetBundle returns the roots.
func (a *Authority) GetBundle(context.Context, *authorityv1.GetBundleRequest) (*authorityv1.GetBundleResponse, error) {
	bundle := a.issuers.Bundle()
	return &authorityv1.GetBundleResponse{TrustDomain: bundle.TrustDomain().Name(), Roots: raw(bundle.X509Authorities()),
		RefreshHintSeconds: int64(min(refreshHint, max(a.life/10, time.Second)) / time.Second)}, nil
}

// keepFresh reads the issuers again and again until ctx ends. A failure is reported when it is a new one; what was read
// last stays in force.
func (a *Authority) keepFresh(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	last := ""
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		err := a.issuers.Refresh()
		if err == nil {
			err = a.issuers.Retire()
		}
		switch {
		case err == nil:
			last = ""
		case err.Error() != last:
			last = err.Error()
			a.log.Error("issuers could not be read; the last ones stay in force", "error", err)
		}
	}
}

func raw(certs []*x509.Certificate) [][]byte {
	der := make([][]byte, len(certs))
	for i, cert := range certs {
		der[i] = cert.Raw
	}
	return der
}
