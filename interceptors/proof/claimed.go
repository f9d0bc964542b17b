package proof

import (
	"errors"
	"fmt"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/jws"
)

// Claim is what a signed request says of itself. Nobody has vouched for it: only the server to which the request is addressed
// finds out.
type Claim struct {
	Signer  spiffeid.ID // the workload that it is of
	Via     spiffeid.ID // who alone may pass it on; zero: whoever holds the role
	Expires time.Time   // its claim exp: from then on, and a leeway of the server's of at most 30 s, nobody takes it
}

// Claimed returns what a signed request says of itself, for who is to pass it on. An error says that no server takes it: it is
// not a proof in the right form, or about other bytes or another method than those beside it, or for more than a minute.
func Claimed(request *rolecallv1.SignedRequest) (Claim, error) {
	c, err := unverifiedClaims(request)
	if err == nil {
		err = c.checkLife()
	}
	claim := Claim{Expires: time.Unix(c.Expires, 0)}
	if err == nil {
		claim.Signer, err = workload("iss", c.Issuer)
	}
	if err == nil && c.Via != "" {
		claim.Via, err = workload("via", c.Via)
	}
	if err != nil {
		return Claim{}, fmt.Errorf("proof: %w", err)
	}
	return claim, nil
}

func unverifiedClaims(request *rolecallv1.SignedRequest) (c claims, err error) {
	token, err := jws.Parse(request.GetProof(), feature.MaxProof)
	if err != nil {
		return c, err
	}
	object, err := token.Unverified()
	if err != nil {
		return c, err
	}
	if c, err = readClaims(object); err != nil {
		return c, err
	}
	if c.Method != request.GetMethod() || c.Body != hash(request.GetRequest()) {
		return c, errors.New("the proof is not about the request beside it")
	}
	return c, nil
}
