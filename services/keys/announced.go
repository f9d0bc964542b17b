package keys

import (
	"bytes"
	"context"
	"crypto/x509"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"example.com/rolecall/internal/jwk"
)

const (
	// maxID is how long a SPIFFE ID is at most (SPIFFE-ID §2.3).
	maxID = 2048
	// maxChain bounds the certificates that are kept with a key, in bytes: what is kept is what others have to carry.
	maxChain = 16 << 10
)

// shown returns the key of the certificate that the caller of id has shown on the connection of this very call. The guard has
// verified it; whoever asks for the key verifies it again.
func shown(ctx context.Context, id spiffeid.ID) (key, error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return key{}, status.Error(codes.Internal, "internal error")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return key{}, status.Error(codes.Internal, "internal error")
	}
	leaf := info.State.PeerCertificates[0]
	described, err := jwk.ES256(leaf.PublicKey)
	if err != nil {
		return key{}, status.Errorf(codes.FailedPrecondition, "proofs are signed with ES256, and the certificate has %s", err)
	}
	k := key{id: id.String(), kid: described.KeyID, expires: leaf.NotAfter}
	size := 0
	for i, cert := range info.State.PeerCertificates {
		if i > 0 && selfSigned(cert) {
			continue // a root: verifiers have their own
		}
		k.chain = append(k.chain, cert.Raw)
		size += len(cert.Raw)
	}
	if size > maxChain {
		return key{}, status.Errorf(codes.FailedPrecondition, "the certificate chain has %d bytes: at most %d are kept", size, maxChain)
	}
	return k, nil
}

func selfSigned(cert *x509.Certificate) bool {
	return bytes.Equal(cert.RawSubject, cert.RawIssuer) && cert.CheckSignatureFrom(cert) == nil
}
