package agent

import (
	"context"
	"crypto/x509"
)

// signingAtOnce is how many certificates one agent has signed at the same time: its restart must not be a storm for the
// authority.
const signingAtOnce = 8

// boundedSigner waits for one of the slots that all identities of an agent share.
type boundedSigner struct {
	signer Signer
	slots  chan struct{}
}

// Sign waits for a slot and has the request signed.
func (b boundedSigner) Sign(ctx context.Context, csr []byte) ([]*x509.Certificate, error) {
	select {
	case b.slots <- struct{}{}:
		defer func() { <-b.slots }()
		return b.signer.Sign(ctx, csr)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
