package interceptors

import (
	"crypto"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"example.com/rolecall/interceptors/internal/audit"
	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/feature"
)

// The metadata that carries the proof of a request, and the trailer with the receipt of its answer.
const (
	proofKey   = "rolecall-proof"
	receiptKey = "rolecall-receipt"
)

// maxProof bounds a proof, in bytes: ours has about 700.
const maxProof = 4 << 10

// proven is a verified proof, and what its signer kept of its roles. Immutable.
type proven struct {
	*feature.Proof
	subset authz.Set // closed; counts if Narrowed
}

// admitProof verifies the proof of a request, and decides about the signer as about a peer. Nothing is used up.
func (c *call) admitProof(body []byte) (r reason, detail string) {
	md, _ := metadata.FromIncomingContext(c.Context)
	values := md.Get(proofKey)
	if len(values) == 0 {
		return proofRequired, ""
	}
	if len(values) > 1 || len(values[0]) > maxProof {
		return proofInvalid, "the metadata rolecall-proof is not exactly one proof of at most 4 KiB"
	}
	signed := &feature.SignedCall{
		Method: c.method.full, Text: values[0], Body: body, Metadata: md,
		Narrowed: c.narrowed, Subset: md.Get(subsetKey),
		Peer: c.conn.ID, PeerKey: c.peerKey(),
	}
	if token := md.Get(tokenKey); len(token) > 0 {
		var ok bool
		if signed.Token, ok = bearer(token); !ok {
			return proofInvalid, "a proof covers one bearer token, and the metadata authorization is not one"
		}
	}
	proof, verdict, detail := c.server.guard.proofs.Verify(c, signed)
	if r := requestReason(verdict); r != allowed {
		return r, detail
	}
	p := &proven{Proof: proof}
	if proof.Narrowed && len(proof.Roles) > 0 {
		p.subset = c.server.subset(proof.Roles)
	}
	c.proof.Store(p)
	return c.signerStanding(p)
}

// burnProof uses the proof up, or, where that happens together with the effect, asks whether there is room for it.
func (c *call) burnProof() (reason, string) {
	proofs, proof := c.server.guard.proofs, c.proof.Load().Proof
	if c.method.rule.Conditions.ExactlyOnce {
		verdict, detail := proofs.Allow(proof)
		return requestReason(verdict), detail
	}
	verdict, detail := proofs.Burn(c, proof)
	return requestReason(verdict), detail
}

// signerStanding tells whether the signer is still good: its certificate, where the peer's is another, has not expired, neither
// its ID nor the key that it signed with is denied, and it holds the roles that the method requires, of those that it kept for this request. For the peer itself decide has said so
// before, but not of a key that it has signed with and shows no longer.
func (c *call) signerStanding(p *proven) (reason, string) {
	if p.Relayed {
		verdict, why := c.server.guard.proofs.Standing(p.Proof)
		if r := requestReason(verdict); r != allowed {
			return r, why
		}
	}
	now, rule := c.server.snapshot.Load(), c.method.rule
	if now.state.bindings != nil {
		if why, denied := now.state.bindings.DeniedPeer(p.Signer, p.Key); denied {
			return signerDenied, why
		}
	}
	switch {
	case rule.AnyWorkload && p.Signer.TrustDomain() != c.server.guard.trustDomain,
		!now.policy.Held(p.Signer).ContainsAll(rule.Need),
		p.Narrowed && !p.subset.ContainsAll(rule.Need):
		return signerRoleRequired, ""
	}
	return allowed, ""
}

// relayed tells whether another than the peer has signed the request.
func (c *call) relayed() bool {
	p := c.proof.Load()
	return p != nil && p.Relayed
}

// unproven tells whether the method asks for a proof that has not been verified yet: before the request of a stream was read.
func (c *call) unproven() bool {
	return c.method.rule.Conditions.Proof && c.proof.Load() == nil
}

// signerHolds tells whether the signer of the request, if the method has one, holds a role now and has not given it up. Nobody
// holds one as long as nobody knows who that is: the peer may only pass the request on.
func (c *call) signerHolds(role int) bool {
	p := c.proof.Load()
	if p == nil {
		return !c.unproven()
	}
	if r, _ := c.signerStanding(p); r != allowed {
		return false
	}
	return c.server.snapshot.Load().policy.Held(p.Signer).Has(role) && (!p.Narrowed || p.subset.Has(role))
}

// explainSigner says what is wrong with the signer: to the caller the names of missing roles, and no more.
func (c *call) explainSigner(r reason, record *audit.Record, info map[string]string) {
	info["of"] = "signer"
	p := c.proof.Load()
	if p == nil {
		return
	}
	if r == signerDenied {
		_, record.Detail = c.signerStanding(p)
		return
	}
	if len(record.Roles) == 0 {
		record.Detail = "any_workload is for signers of the own trust domain"
		return
	}
	held := c.server.snapshot.Load().policy.Held(p.Signer)
	for _, role := range record.Roles {
		if i, ok := c.server.table.RoleIndex(role); !ok || !held.Has(i) || p.Narrowed && !p.subset.Has(i) {
			record.Missing = append(record.Missing, role)
		}
	}
	record.Detail = "the signer lacks the role"
	info["role"] = strings.Join(record.Missing, ",")
}

// peerKey returns the public key of the certificate that the peer showed.
func (c *call) peerKey() crypto.PublicKey {
	p, ok := peer.FromContext(c.Context)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	return info.State.PeerCertificates[0].PublicKey
}

// requestReason is the refusal that a verdict on a proof or on a request means. One that is not about these is a mistake of
// the feature, and lets nobody in.
func requestReason(v feature.Verdict) reason {
	switch v {
	case feature.Good:
		return allowed
	case feature.Invalid:
		return proofInvalid
	case feature.Expired:
		return proofExpired
	case feature.Unavailable:
		return verifierUnavailable
	case feature.Unknown:
		return proofSignerUnknown
	case feature.Replayed:
		return proofReplayed
	case feature.Full:
		return proofWindowFull
	case feature.NoRequestID:
		return requestIDRequired
	case feature.Reused:
		return requestIDReused
	case feature.InProgress:
		return requestInProgress
	case feature.TooMany:
		return rateLimited
	}
	return panicked
}
