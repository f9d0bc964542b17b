package keys

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/internal/jwk"
)

const (
	// maxID is how long a SPIFFE ID is at most (SPIFFE-ID §2.3).
	maxID = 2048
	// maxChain bounds the certificates that are kept with a key, in bytes: what is kept is what others have to carry.
	maxChain = 16 << 10
)

// key is a row.
type key struct {
	id, kid  string
	chain    [][]byte // DER, leaf first
	expires  time.Time
	sequence int64
}

func (k key) message() *keysv1.Key {
	return &keysv1.Key{SpiffeId: k.id, Kid: k.kid, Chain: k.chain, ExpireTime: timestamppb.New(k.expires)}
}

// jwk describes the key with its chain (RFC 7517 section 4.7).
func (k key) jwk() (jose.JSONWebKey, error) {
	chain, err := parse(k.chain)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	described, err := jwk.ES256(chain[0].PublicKey)
	described.Certificates = chain
	return described, err
}

// parse reads a chain that was kept.
func parse(chain [][]byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate in the database: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("chain without a certificate in the database")
	}
	return certs, nil
}

// encode returns a value as JSON text.
func encode(value any) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}

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
