package proof

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
	"example.com/rolecall/interceptors/internal/jws"
)

// Verify implements feature.Proofs. Everything that the proof says is compared first, then the key is looked for, and the
// signature checked last: what does not fit this call fetches no key.
func (p *proofs) Verify(ctx context.Context, call *feature.SignedCall) (*feature.Proof, feature.Verdict, string) {
	proof, verdict, detail := p.verify(ctx, call)
	p.verified[verdict].Add(1)
	if verdict != feature.Good {
		return nil, verdict, detail
	}
	return proof, feature.Good, ""
}

func (p *proofs) verify(ctx context.Context, call *feature.SignedCall) (*feature.Proof, feature.Verdict, string) {
	token, err := jws.Parse(call.Text, feature.MaxProof)
	switch {
	case err != nil:
		return nil, feature.Invalid, err.Error()
	case token.Type != proofType || token.Algorithm != algorithm:
		return nil, feature.Invalid, fmt.Sprintf("typ %.40q and alg %.40q, not %s and %s", token.Type, token.Algorithm, proofType, algorithm)
	}
	object, err := token.Unverified()
	if err != nil {
		return nil, feature.Invalid, err.Error()
	}
	c, err := readClaims(object)
	if err != nil {
		return nil, feature.Invalid, err.Error()
	}
	signer, err := workload("iss", c.Issuer)
	if err != nil {
		return nil, feature.Invalid, err.Error()
	}
	own, err := p.own.get()
	if err != nil {
		return nil, feature.Unavailable, err.Error() // who this server is, nobody can tell
	}
	relayed := signer != call.Peer
	if err := p.compare(&c, call, own.id, relayed); err != nil {
		return nil, feature.Invalid, err.Error()
	}
	if verdict, detail := c.checkTime(p.env.Now(), p.cfg.Leeway); verdict != feature.Good {
		return nil, verdict, detail
	}
	claimed := fmt.Sprintf("it claims to be of %.150q with the key %.60q: ", c.Issuer, token.KeyID)
	found, verdict, detail := p.keyOf(ctx, call, signer, token.KeyID)
	if verdict != feature.Good {
		return nil, verdict, claimed + detail
	}
	if found.announced != nil { // which may have taken a while to find out
		if verdict, detail := c.checkTime(p.env.Now(), p.cfg.Leeway); verdict != feature.Good {
			return nil, verdict, claimed + detail
		}
	}
	if _, err := token.Verify(found.key, proofType); err != nil {
		return nil, feature.Invalid, claimed + err.Error()
	}
	kept := &verified{method: call.Method}
	kept.announced.Store(found.announced)
	if conn := identity.FromContext(ctx); conn != nil {
		kept.shown = conn.Shown
	}
	return &feature.Proof{
		Signer: signer, Key: found.leaf, Relayed: relayed, Nonce: c.Nonce,
		Issued: time.Unix(c.Issued, 0), Expires: time.Unix(c.Expires, 0).Add(p.cfg.Leeway),
		Narrowed: c.Roles != nil, Roles: c.Roles, Own: kept,
	}, feature.Good, ""
}

// compare checks that a proof is about this very call of this server.
func (p *proofs) compare(c *claims, call *feature.SignedCall, server spiffeid.ID, relayed bool) error {
	switch {
	case c.Audience != server.String():
		return fmt.Errorf("it is for the server %.200q", c.Audience)
	case c.Method != call.Method:
		return fmt.Errorf("it is for the method %.200q", c.Method)
	case c.Body != hash(call.Body):
		return errors.New("the request is not the one that was signed")
	case c.Token == "" && call.Token != "":
		return errors.New("it covers no access token, and one came along")
	case c.Token != "" && call.Token == "":
		return errors.New("it covers an access token, and none came along")
	case c.Token != "" && c.Token != hash(call.Token):
		return errors.New("it covers another access token than the one that came along")
	case !relayed && (c.Roles != nil) != call.Narrowed, !relayed && !slices.Equal(c.Roles, call.Subset):
		// Of a relayed one the signer has narrowed itself, and the peer, by its metadata, itself.
		return errors.New("it covers other roles than rolecall-role-subset says")
	case relayed && c.Via != "" && c.Via != call.Peer.String():
		return fmt.Errorf("it is to be passed on by %.200q, and nobody else", c.Via)
	case c.Names != nil && c.Metadata != digest(c.Names, call.Metadata):
		return errors.New("the metadata is not what was signed")
	}
	for _, name := range p.cfg.Metadata {
		if _, covered := slices.BinarySearch(c.Names, name); !covered && len(call.Metadata[name]) > 0 {
			return fmt.Errorf("it does not cover the metadata %s, which came along", name)
		}
	}
	return nil
}

// foundKey is the key of a proof or of a receipt.
type foundKey struct {
	key       jws.Key
	leaf      identity.Key
	announced *identity.Announced // nil: the other end of the connection has shown it
}

// keyOf finds the key of a proof: the one that the peer has shown on its connection, if that has the name and the peer is
// the signer, else one that the signer has announced, with its chain.
func (p *proofs) keyOf(ctx context.Context, call *feature.SignedCall, signer spiffeid.ID, kid string) (foundKey, feature.Verdict, string) {
	if signer == call.Peer {
		if shown, ok := shownKey(call.PeerKey, kid); ok {
			return shown, feature.Good, ""
		}
	}
	k, verdict, detail := p.ring.find(ctx, call.Peer, signer, kid, false)
	if verdict != feature.Good {
		return foundKey{}, verdict, detail
	}
	return foundKey{k.key, k.Leaf, k.Announced}, feature.Good, ""
}

// Standing implements feature.Proofs: whether the chain that the signer has announced still holds. A peer's own is looked at
// on its connection.
func (p *proofs) Standing(proof *feature.Proof) (feature.Verdict, string) {
	call, ok := proof.Own.(*verified)
	if !ok {
		return feature.Unknown, "the proof was not verified here"
	}
	was := call.announced.Load()
	if was == nil {
		return feature.Good, ""
	}
	now, err := was.Recheck(p.env.Source, p.env.Now(), p.ring.denied(was.Leaf, false))
	if err != nil {
		return feature.Unknown, "the signer's key was good before: " + err.Error()
	}
	if now != was {
		call.announced.Store(now)
	}
	return feature.Good, ""
}

// shownKey returns the key of a certificate that was shown in a handshake, if it has the name.
func shownKey(public crypto.PublicKey, kid string) (foundKey, bool) {
	ec, ok := public.(*ecdsa.PublicKey)
	if !ok {
		return foundKey{}, false
	}
	if thumbprint, err := jws.Thumbprint(ec); err != nil || thumbprint != kid {
		return foundKey{}, false
	}
	key, err := jws.NewKey(kid, algorithm, ec)
	if err != nil {
		return foundKey{}, false
	}
	info, err := x509.MarshalPKIXPublicKey(ec)
	if err != nil {
		return foundKey{}, false
	}
	return foundKey{key: key, leaf: sha256.Sum256(info)}, true
}
