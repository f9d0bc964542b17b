package tokens_test

import (
	"crypto/x509"
	"encoding/json"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/node/nodetest"
	"example.com/rolecall/internal/store/storetest"
	"example.com/rolecall/rolecalltest"
	"example.com/rolecall/services/tokens"
)

// replica starts another tokens service on the database of the first.
func (h *house) replica(t *testing.T) *nodetest.Service {
	t.Helper()
	return h.mesh.Start(t, "tokens", h.database, tokens.New(h.config()), h.peer)
}

// verified checks a signed set of keys as someone does who has nothing but the roots, and returns the keys.
func verified(t *testing.T, ca *rolecalltest.CA, signed *tokensv1.SignedKeys) (keys jose.JSONWebKeySet, leaf *x509.Certificate) {
	t.Helper()
	var chain []*x509.Certificate
	for _, der := range signed.GetChain() {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatalf("chain: %v", err)
		}
		chain = append(chain, c)
	}
	id, _, err := x509svid.Verify(chain, ca.Bundle())
	if err != nil || id.String() != "spiffe://mesh.local/service/tokens" {
		t.Fatalf("the signer is %v: %v", id, err)
	}
	jws, err := jose.ParseSigned(signed.GetJws(), []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatalf("parse: %v", err)
	}
	payload, err := jws.Verify(chain[0].PublicKey)
	if err != nil {
		t.Fatalf("verify: %v", err)
	}
	var claims struct {
		Iss      string
		Iat, Exp int64
		Keys     json.RawMessage
	}
	if err := json.Unmarshal(payload, &claims); err != nil {
		t.Fatal(err)
	}
	header := part(t, signed.GetJws(), 0)
	if claims.Iss != id.String() || claims.Exp <= claims.Iat || claims.Exp > chain[0].NotAfter.Unix() || header["typ"] != "rolecall-keys+jwt" || len(header) != 3 {
		t.Errorf("header %v, iss %s, iat %d, exp %d", header, claims.Iss, claims.Iat, claims.Exp)
	}
	if err := json.Unmarshal(payload, &keys); err != nil {
		t.Fatal(err)
	}
	for _, key := range keys.Keys {
		if !key.IsPublic() || key.Algorithm != "ES256" || key.Use != "sig" {
			t.Errorf("a key that is not a public one for ES256: %+v", key)
		}
	}
	return keys, chain[0]
}

func (h *house) getKeys(t *testing.T) *tokensv1.SignedKeys {
	t.Helper()
	carol := tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/carol", h.tokens))
	answer, err := carol.GetKeys(nodetest.Context(t), &tokensv1.GetKeysRequest{})
	if err != nil {
		t.Fatalf("get keys: %v", err)
	}
	return answer.GetKeys()
}

func TestTheKeyOfATokenIsPublishedAndSignedByTheService(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	token := h.login(t).GetAccessToken()
	keys, _ := verified(t, h.mesh.CA, h.getKeys(t))
	kid := part(t, token, 0)["kid"].(string)
	found := keys.Key(kid)
	if len(found) != 1 {
		t.Fatalf("%d keys have the identifier %s", len(found), kid)
	}
	jws, err := jose.ParseSigned(token, []jose.SignatureAlgorithm{jose.ES256})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := jws.Verify(found[0].Key); err != nil {
		t.Errorf("verify: %v", err)
	}
}

func TestTheNextKeyIsPublishedBeforeItSigns(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		// All of it within the life of the certificate, an hour.
		h := newHouse(t, url, func(c *tokens.Config) { c.KeyLife = 20 * time.Minute })
		before := h.login(t)
		old := part(t, before.GetAccessToken(), 0)["kid"].(string)
		messages, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
		h.clock.advance(20*time.Minute - 30*time.Second) // the next one is due, and signs in a minute
		var both jose.JSONWebKeySet
		late := time.After(nodetest.Patience)
		for len(both.Keys) != 2 {
			select {
			case m := <-messages:
				if m.GetKeys() != nil {
					both, _ = verified(t, h.mesh.CA, m.GetKeys())
				}
			case <-late:
				t.Fatal("watchers were sent no second key")
			}
		}
		if got := part(t, h.login(t).GetAccessToken(), 0)["kid"]; got != old {
			t.Errorf("key %v signs as soon as it is published", got)
		}
		h.clock.advance(time.Minute)
		var token string
		wait(t, "the next key signs", func() bool {
			token = h.mustRefresh(t, h.login(t).GetRefreshToken()).GetAccessToken()
			return part(t, token, 0)["kid"] != old
		})
		if kid := part(t, token, 0)["kid"].(string); len(both.Key(kid)) != 1 {
			t.Errorf("key %s signs and was not published before", kid)
		}
		// Of the old one tokens are still about; later it is gone.
		if keys, _ := verified(t, h.mesh.CA, h.getKeys(t)); len(keys.Key(old)) != 1 {
			t.Error("the old key is gone while its tokens are good")
		}
		h.clock.advance(20 * time.Minute)
		wait(t, "the old key is gone", func() bool {
			keys, _ := verified(t, h.mesh.CA, h.getKeys(t))
			return len(keys.Key(old)) == 0
		})
	})
}

func TestKeysAreSignedAnewAfterTheCertificateWasRenewed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, "")
	source := h.mesh.CA.Source("/service/tokens")
	service := h.mesh.Start(t, "tokens", "", tokens.New(h.config()), h.peer, func(cfg *node.Config) { cfg.Source = source })
	h.tokens = service
	h.admin = tokensv1.NewTokensServiceClient(h.mesh.Client(t, "/operator/alice", service))
	messages, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
	first := (<-messages).GetKeys()
	keys, leaf := verified(t, h.mesh.CA, first)
	source.Renew()
	again, renewed := verified(t, h.mesh.CA, h.getKeys(t))
	if renewed.Equal(leaf) {
		t.Error("the keys are still signed with the old certificate")
	}
	if len(keys.Keys) != 1 || len(again.Keys) != 1 || keys.Keys[0].KeyID != again.Keys[0].KeyID {
		t.Error("the renewal changed the keys")
	}
	late := time.After(nodetest.Patience)
	for sent := false; !sent; {
		select {
		case m := <-messages:
			if m.GetKeys() != nil {
				_, signer := verified(t, h.mesh.CA, m.GetKeys())
				sent = signer.Equal(renewed)
			}
		case <-late:
			t.Fatal("watchers were not sent the new signature")
		}
	}
	// What was signed with the old certificate can still be verified by who got it before.
	verified(t, h.mesh.CA, first)
}

func TestReplicasPublishTheKeysOfEachOther(t *testing.T) {
	t.Parallel()
	h := newHouse(t, storetest.Postgres(t))
	messages, _ := follow(t, h.admin, &tokensv1.WatchRevocationsRequest{})
	next(t, messages)
	h.replica(t)
	began, late := time.Now(), time.After(nodetest.Patience)
	for {
		select {
		case m := <-messages:
			if m.GetKeys() == nil {
				continue
			}
			if keys, _ := verified(t, h.mesh.CA, m.GetKeys()); len(keys.Keys) == 2 {
				t.Logf("after %s", time.Since(began))
				return
			}
		case <-late:
			t.Fatal("the key of the new replica was not told")
		}
	}
}
