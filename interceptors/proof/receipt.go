package proof

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
	"example.com/rolecall/interceptors/internal/jws"
)

const receiptType = "rolecall-receipt+jwt"

// receiptClaims is what a receipt says. The order of the fields is that of the JSON.
type receiptClaims struct {
	Issuer   string `json:"iss"` // SPIFFE ID of the server
	Audience string `json:"aud"` // SPIFFE ID of the signer of the request
	Method   string `json:"mth"`
	Proof    string `json:"prf"` // the nonce of the request's proof
	Body     string `json:"bth"` // hash of the response message
	Issued   int64  `json:"iat"`
}

func readReceipt(o jws.Object) (c receiptClaims, err error) {
	if len(o) != 6 {
		return c, fmt.Errorf("%d claims in place of six", len(o))
	}
	if err := readStrings(o, map[string]*string{
		"iss": &c.Issuer, "aud": &c.Audience, "mth": &c.Method, "prf": &c.Proof, "bth": &c.Body,
	}); err != nil {
		return c, err
	}
	c.Issued, err = o.Int("iat")
	return c, err
}

// verified is what a proof keeps for its receipt, and for as long as the call lasts.
type verified struct {
	method    string
	shown     *tls.Certificate                   // of this server, that the peer has seen
	announced atomic.Pointer[identity.Announced] // the signer's; nil if it is the peer, with the key that it has shown
}

// Receipt implements feature.Proofs. A peer finds the key on its connection, however often this server's certificate has
// been renewed since; who signed a request that another has sent asks the key server for it.
func (p *proofs) Receipt(proof *feature.Proof, response []byte) (string, error) {
	if p.ctx.Err() != nil {
		return "", errClosed
	}
	call, ok := proof.Own.(*verified)
	if !ok {
		return "", errors.New("proof: a receipt was asked for a proof that was not verified here")
	}
	c, err := p.credentialFor(call, proof.Relayed)
	if err != nil {
		return "", fmt.Errorf("proof: sign the answer: %w", err)
	}
	return c.signer.Sign(receiptType, &receiptClaims{
		Issuer: c.id.String(), Audience: proof.Signer.String(), Method: call.method, Proof: proof.Nonce,
		Body: hash(response), Issued: p.env.Now().Unix(),
	})
}

func (p *proofs) credentialFor(call *verified, relayed bool) (*credential, error) {
	if relayed || call.shown == nil {
		return p.own.choose()
	}
	return p.credentialShown(call.shown)
}

// accept checks a receipt against the proof that it is for, and the response. shown is the key that the server has shown on
// the connection, nil if the receipt came over others.
func (p *proofs) accept(ctx context.Context, text string, request *claims, response []byte, shown crypto.PublicKey) error {
	err := p.check(ctx, text, request, response, shown)
	held := 0
	if err == nil {
		held = 1
	}
	p.receipts[held].Add(1)
	return err
}

func (p *proofs) check(ctx context.Context, text string, request *claims, response []byte, shown crypto.PublicKey) error {
	token, err := jws.Parse(text, feature.MaxProof)
	switch {
	case err != nil:
		return err
	case token.Type != receiptType || token.Algorithm != algorithm:
		return fmt.Errorf("typ %.40q and alg %.40q, not %s and %s", token.Type, token.Algorithm, receiptType, algorithm)
	}
	object, err := token.Unverified()
	if err != nil {
		return err
	}
	c, err := readReceipt(object)
	if err != nil {
		return err
	}
	// The clocks differ by no more than a life and the leeway, or the server had not taken the proof.
	issued, apart := time.Unix(c.Issued, 0), maxLife+maxLeeway
	switch {
	case c.Issuer != request.Audience:
		return fmt.Errorf("it is of %.200q, and the request went to %s", c.Issuer, request.Audience)
	case c.Audience != request.Issuer:
		return fmt.Errorf("it is for %.200q, and the request was signed by %s", c.Audience, request.Issuer)
	case c.Method != request.Method:
		return fmt.Errorf("it is about the method %.200q", c.Method)
	case c.Proof != request.Nonce:
		return errors.New("it is about another request")
	case c.Body != hash(response):
		return errors.New("the response is not the one that was signed")
	case issued.Before(time.Unix(request.Issued, 0).Add(-maxLeeway)), issued.After(p.env.Now().Add(apart)):
		return errors.New("it was made at another time than the request")
	}
	key, err := p.keyOfServer(ctx, request.Audience, token.KeyID, shown)
	if err != nil {
		return err
	}
	_, err = token.Verify(key, receiptType)
	return err
}

func (p *proofs) keyOfServer(ctx context.Context, server, kid string, shown crypto.PublicKey) (jws.Key, error) {
	if found, ok := shownKey(shown, kid); ok {
		return found.key, nil
	}
	id, err := spiffeid.FromString(server)
	if err != nil {
		return jws.Key{}, err
	}
	k, verdict, detail := p.ring.find(ctx, id, id, kid, true)
	if verdict != feature.Good {
		return jws.Key{}, fmt.Errorf("the key of the server that signed it is not known: %s", detail)
	}
	return k.key, nil
}

// VerifyReceipt checks the answer to a request that this workload has signed and another one has sent: that the server to
// which the request was addressed has signed this response to this request. It may ask the key server.
func (f *Feature) VerifyReceipt(ctx context.Context, request *rolecallv1.SignedRequest, response *rolecallv1.SignedResponse) error {
	p := f.running.Load()
	if p == nil {
		return errNotStarted
	}
	c, err := unverifiedClaims(request)
	if err != nil {
		return fmt.Errorf("proof: verify receipt: the request: %w", err)
	}
	if err := p.accept(ctx, response.GetReceipt(), &c, response.GetResponse(), nil); err != nil {
		return fmt.Errorf("proof: verify receipt: %w", err)
	}
	return nil
}
