package rootrotation

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"example.com/rolecall/pki"
)

// maxProposal bounds the file that carries a proposal, in bytes: two certificates are two kilobytes.
const maxProposal = 64 << 10

const pemCertificate = "CERTIFICATE"

// Proposal is what the machine with the roots hands to the authority: the new root, and the cross certificate, which is
// the new root's key signed by the old one. It holds no secret, but whoever can change it on its way decides whom the
// trust domain will trust: compare the SHA-256 on both machines.
type Proposal struct {
	New   *x509.Certificate
	Cross *x509.Certificate // nil if the key of the old root is lost
}

// Propose signs the cross certificate. old is nil if its key is lost: then nobody verifies a chain of the new root before
// it has the new bundle, and Activate waits for that.
func Propose(old, next *pki.Root) (Proposal, error) {
	p := Proposal{New: next.Certificate()}
	if old == nil {
		return p, nil
	}
	if a, b := old.TrustDomain(), next.TrustDomain(); a != b {
		return Proposal{}, fmt.Errorf("the old root is of trust domain %s and the new one of %s: name the folders of two roots of one trust domain", a, b)
	}
	if bytes.Equal(old.Certificate().Raw, p.New.Raw) {
		return Proposal{}, errors.New("the old root and the new one are the same: name another folder for the new one")
	}
	var err error
	if p.Cross, err = old.SignCross(p.New); err != nil {
		return Proposal{}, fmt.Errorf("sign the cross certificate: %w", err)
	}
	return p, nil
}

// Encode returns the proposal as PEM, the new root first.
func (p Proposal) Encode() []byte {
	out := pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: p.New.Raw})
	if p.Cross != nil {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemCertificate, Bytes: p.Cross.Raw})...)
	}
	return out
}

// ParseProposal reads what Encode wrote. That the certificates fit the authority is checked when they are prepared.
func ParseProposal(data []byte) (Proposal, error) {
	if len(data) > maxProposal {
		return Proposal{}, fmt.Errorf("it has more than %d bytes: it is not what 'rolecall pki root rotate prepare --out' wrote", maxProposal)
	}
	var p Proposal
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil || block.Type != pemCertificate {
			return Proposal{}, errors.New("it holds something else than certificates in PEM: bring what 'rolecall pki root rotate prepare --out' wrote")
		}
		data = rest
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Proposal{}, fmt.Errorf("a certificate in it cannot be read: %w", err)
		}
		self := bytes.Equal(cert.RawIssuer, cert.RawSubject) && cert.CheckSignatureFrom(cert) == nil
		switch {
		case self && p.New == nil:
			p.New = cert
		case !self && p.Cross == nil:
			p.Cross = cert
		default:
			return Proposal{}, errors.New("it holds more than one new root and one cross certificate")
		}
	}
	if p.New == nil {
		return Proposal{}, errors.New("there is no new root in it, a certificate that signs itself")
	}
	return p, nil
}
