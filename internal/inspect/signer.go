package inspect

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/internal/jwk"
)

// checkSignature verifies the signature with the signer's certificate, as far as that is at hand.
func (t *compact) checkSignature(o *object, opts Options) {
	if len(opts.Chains) == 0 {
		o.unverified("the signature, so all of this is what it says, not what is true (--cert FILE with the signer's chain, or what keys/GetKeys answers, and --bundle FILE)")
		return
	}
	var others []string
	var chain []*x509.Certificate
	for _, c := range opts.Chains {
		described, err := jwk.ES256(c[0].PublicKey)
		switch {
		case err != nil:
			others = append(others, "which is not on P-256")
		case described.KeyID == text(t.header, "kid"):
			chain = c
		default:
			others = append(others, "whose thumbprint is "+described.KeyID)
		}
	}
	if chain == nil {
		o.problem("it was not signed with the key of the certificate at hand, %s", strings.Join(others, ", or "))
		return
	}
	key := chain[0].PublicKey.(*ecdsa.PublicKey) // of the thumbprint
	if err := t.verify(key); err != nil {
		o.problem("the signature does not hold: %v", err)
		return
	}
	if len(opts.Bundle) == 0 {
		o.field("signature", "holds, by the key of the certificate at hand")
		o.unverified("that the certificate is the signer's: its chain was not verified (--bundle FILE)")
		return
	}
	at, ok := seconds(t.claims, "iat")
	if !ok {
		at = opts.Now
	}
	id, err := verifyChain(chain, opts.Bundle, at)
	switch {
	case err != nil:
		o.problem("the certificate at hand is not good: %v", err)
	case id != text(t.claims, "iss"):
		o.problem("it was signed by %s, and says that it was by %s", id, text(t.claims, "iss"))
	default:
		o.field("signature", "holds, by %s, whose certificate was valid at the time that it names", id)
	}
}

// verify checks the signature, two numbers of 32 bytes (RFC 7518 §3.4).
func (t *compact) verify(key *ecdsa.PublicKey) error {
	if alg := text(t.header, "alg"); alg != "ES256" {
		return fmt.Errorf("its alg is %q and not ES256", alg)
	}
	if len(t.signature) != 64 {
		return fmt.Errorf("it has %d bytes and not 64", len(t.signature))
	}
	sum := sha256.Sum256([]byte(t.signed))
	if !ecdsa.Verify(key, sum[:], new(big.Int).SetBytes(t.signature[:32]), new(big.Int).SetBytes(t.signature[32:])) {
		return fmt.Errorf("something was changed after it was signed, or somebody else signed it")
	}
	return nil
}

// verifyChain returns whose certificate it is.
func verifyChain(chain []*x509.Certificate, roots []byte, at time.Time) (string, error) {
	id, err := x509svid.IDFromCert(chain[0])
	if err != nil {
		return "", err
	}
	bundle, err := x509bundle.Parse(id.TrustDomain(), roots)
	if err != nil {
		return "", fmt.Errorf("bundle: %w", err)
	}
	if _, _, err := x509svid.Verify(chain, bundle, x509svid.WithTime(at)); err != nil {
		return "", err
	}
	return id.String(), nil
}
