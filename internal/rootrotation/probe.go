package rootrotation

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"google.golang.org/grpc"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/pki"
)

// probe is the operator's own identity renewed in memory, with a chain without the cross certificate and nothing but the
// new root to trust: whoever talks to it trusts the new root, and shows a certificate under it. It is thrown away
// afterwards.
func probe(ctx context.Context, conn grpc.ClientConnInterface, id spiffeid.ID, root *x509.Certificate) (fixed, error) {
	key, err := pki.NewKey()
	if err != nil {
		return fixed{}, err
	}
	csr, err := pki.NewCSR(key, id, nil, nil)
	if err != nil {
		return fixed{}, err
	}
	answer, err := authorityv1.NewAuthorityServiceClient(conn).IssueCertificate(ctx, &authorityv1.IssueCertificateRequest{Csr: csr})
	if err != nil {
		return fixed{}, fmt.Errorf("the authority does not renew %s: %w", id, err)
	}
	var chain []*x509.Certificate
	for _, der := range answer.GetChain() {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return fixed{}, fmt.Errorf("chain of the authority: %w", err)
		}
		if !isKeyOf(root, cert) {
			chain = append(chain, cert)
		}
	}
	bundle := x509bundle.FromX509Authorities(id.TrustDomain(), []*x509.Certificate{root})
	if _, _, err := x509svid.Verify(chain, bundle); err != nil {
		return fixed{}, fmt.Errorf("the authority still signs under the old root, or has not read its folder again (it does within seconds): %w", err)
	}
	return fixed{svid: &x509svid.SVID{ID: id, Certificates: chain, PrivateKey: key}, bundle: bundle}, nil
}

// isKeyOf tells whether a certificate is over the key of the root: it is the root itself or its cross certificate.
func isKeyOf(root, cert *x509.Certificate) bool {
	key, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	return ok && key.Equal(root.PublicKey)
}
