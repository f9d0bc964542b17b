package interceptors

import (
	"strings"

	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"

	"example.com/rolecall/interceptors/internal/audit"
	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/feature"
)

// proven is a verified proof, and what its signer kept of its roles. Immutable.
type proven struct {
	*feature.Proof
	subset authz.Set // closed; counts if Narrowed
}

// admitProof verifies the proof of a request, and decides about the signer as about a peer. Nothing is used up.
func (c *call) admitProof(body []byte) (r reason, detail string) {
	md, _ := metadata.FromIncomingContext(c.Context)
	values := md.Get(feature.ProofKey)
	if len(values) == 0 {
		return proofRequired, ""
	}
	if len(values) > 1 || len(values[0]) > feature.MaxProof {
		return proofInvalid, "the metadata rolecall-proof is not exactly one proof of at most 4 KiB"
	}
	signed := &feature.SignedCall{
		Method: c.method.full, Text: values[0], Body: body, Metadata: md,
		Narrowed: c.narrowed, Subset: md.Get(feature.SubsetKey),
		Peer: c.conn.ID,
	}
	if p, ok := peer.FromContext(c.Context); ok {
		signed.PeerKey = feature.PeerKey(p)
	}
	if token := md.Get(feature.TokenKey); len(token) > 0 {
		var ok bool
		if signed.Token, ok = feature.Bearer(token); !ok {
			return proofInvalid, "a proof covers one bearer token, and the metadata authorization is not one"
		}
	}
	proof, verdict, detail := c.server.guard.proofs.Verify(c, signed)
	if r := c.reasonOf(aboutProof, verdict); r != allowed {
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
		return c.reasonOf(aboutProof, verdict), detail
	}
	verdict, detail := proofs.Burn(c, proof)
	return c.reasonOf(aboutProof, verdict), detail
}

// signerStanding tells whether the signer is still good: its certificate, where the peer's is another, has not expired, neither
// its ID nor the key that it signed with is denied, and it holds the roles that the method requires, of those that it kept for
// this request. For the peer itself decide has said so before, but not of a key that it has signed with and shows no longer.
func (c *call) signerStanding(p *proven) (reason, string) {
	if p.Relayed {
		verdict, why := c.server.guard.proofs.Standing(p.Proof)
		if r := c.reasonOf(aboutProof, verdict); r != allowed {
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
