package proof

import (
	"context"
	"errors"
	"time"
)

// Window remembers which proofs were used, so that none is used twice. What one signer uses up is bounded by Config.PerSigner
// before it is asked. Safe for concurrent use.
type Window interface {
	// Burn uses a nonce up. It returns nil once, however many ask at the same time, and after that ErrReplayed. ErrExpired says
	// that nobody can tell whether it was used before; ErrFull that the signer has used up too many of late. Any other error
	// says that the window cannot be asked, and is no reason to take the nonce for fresh.
	Burn(context.Context, Nonce) error
}

// Nonce is the one-time value of a proof. The same value of another signer is another nonce.
type Nonce struct {
	Signer  string // SPIFFE ID
	Value   string // 22 characters: base64url of 16 bytes
	Issued  time.Time
	Expires time.Time // from then on no verifier takes the proof, leeway included
	Now     time.Time // by the clock that the proof was verified with
}

// What a Window answers.
var (
	ErrReplayed = errors.New("the nonce was used before")
	ErrExpired  = errors.New("the nonce is too old to tell whether it was used before")
	ErrFull     = errors.New("the signer has used up too many nonces of late")
)
