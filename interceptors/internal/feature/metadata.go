package feature

import (
	"crypto"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
)

// The metadata of calls, and the trailer with the receipt of an answer.
const (
	ProofKey   = "rolecall-proof"
	ReceiptKey = "rolecall-receipt"
	SubsetKey  = "rolecall-role-subset" // which of its roles a caller wants to use; it can only take roles away
	TokenKey   = "authorization"        // of the user (RFC 6750 §2.1)
)

const (
	// MaxProof bounds a proof, in bytes: ours has about 700.
	MaxProof = 4 << 10
	// MaxToken bounds an access token, in bytes: ours has about one kilobyte, with 4 KB of attributes about seven.
	MaxToken = 8 << 10
)

// Bearer returns the access token in the only value of the metadata, if there is one that a server may take. The scheme's case
// does not matter (RFC 9110 §11.1).
func Bearer(values []string) (string, bool) {
	const scheme = "bearer "
	if len(values) != 1 || len(values[0]) <= len(scheme) || !strings.EqualFold(values[0][:len(scheme)], scheme) {
		return "", false
	}
	token := values[0][len(scheme):]
	return token, len(token) <= MaxToken
}

// PeerKey returns the public key of the certificate that the other end of a connection has shown; nil if it has shown none.
func PeerKey(p *peer.Peer) crypto.PublicKey {
	if info, ok := p.AuthInfo.(credentials.TLSInfo); ok && len(info.State.PeerCertificates) > 0 {
		return info.State.PeerCertificates[0].PublicKey
	}
	return nil
}
