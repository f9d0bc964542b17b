package proof

import (
	"context"
	"errors"

	"example.com/rolecall/interceptors/internal/feature"
)

// Burn implements feature.Proofs.
func (p *proofs) Burn(ctx context.Context, proof *feature.Proof) (feature.Verdict, string) {
	if p.ctx.Err() != nil {
		return feature.Unavailable, errClosed.Error()
	}
	if p.memory != nil {
		return p.burned(p.memory.Burn(ctx, p.nonce(proof)))
	}
	if verdict, detail := p.Allow(proof); verdict != feature.Good {
		return verdict, detail
	}
	return p.burned(p.cfg.Window.Burn(ctx, p.nonce(proof)))
}

// Allow implements feature.Proofs. The nonces are counted, and none is refused for having been seen: the database says whether
// it was used.
func (p *proofs) Allow(proof *feature.Proof) (feature.Verdict, string) {
	err := p.quota.Burn(p.ctx, p.nonce(proof))
	if errors.Is(err, ErrReplayed) || errors.Is(err, ErrExpired) {
		err = nil
	}
	return p.burned(err)
}

func (p *proofs) nonce(proof *feature.Proof) Nonce {
	return Nonce{Signer: proof.Signer.String(), Value: proof.Nonce, Issued: proof.Issued, Expires: proof.Expires, Now: p.env.Now()}
}

func (p *proofs) burned(err error) (verdict feature.Verdict, detail string) {
	switch {
	case err == nil:
		return feature.Good, ""
	case errors.Is(err, ErrReplayed):
		verdict = feature.Replayed
	case errors.Is(err, ErrExpired):
		verdict = feature.Expired
	case errors.Is(err, ErrFull):
		verdict = feature.Full
	default:
		verdict = feature.Unavailable
	}
	p.refused[verdict].Add(1)
	return verdict, err.Error()
}
