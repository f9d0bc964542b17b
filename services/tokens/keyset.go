package tokens

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

const (
	// keySetType is the typ of the JWS that holds the keys.
	keySetType = "rolecall-keys+jwt"
	// keySetLife is how long a signed set is good for, if the certificate is; it is signed anew after a quarter of that.
	keySetLife = time.Hour
	// keySetFresh is how old what was read of the database may be.
	keySetFresh = 100 * time.Millisecond
)

// keySet is the public keys as they were read and signed last.
type keySet struct {
	read    time.Time
	version int64 // of the keys in the database that were read, or an older one
	keys    []json.RawMessage
	leaf    []byte // of the certificate that signed
	iat     int64
	signed  *tokensv1.SignedKeys // immutable; another one for each signature
}

// keySetClaims are those of the JWS.
type keySetClaims struct {
	Issuer   string            `json:"iss"`
	IssuedAt int64             `json:"iat"`
	Expires  int64             `json:"exp"`
	Keys     []json.RawMessage `json:"keys"`
}

func (k *keyring) last() *tokensv1.SignedKeys {
	k.setMu.Lock()
	defer k.setMu.Unlock()
	return k.set.signed
}

// signed returns the public keys of all replicas, signed with the own certificate. It signs anew when a key has come or
// gone, after the certificate was renewed, and after a while: the same pointer is the same signature. Whoever holds the
// roots of the trust domain can verify it, also after the next renewal, for as long as the certificate it names lasts. The
// keys are those of a version of the database or a later one; with version 0, those of a moment ago.
func (k *keyring) signed(ctx context.Context, version int64) (*tokensv1.SignedKeys, error) {
	k.setMu.Lock()
	defer k.setMu.Unlock()
	now := k.now()
	svid, err := k.svid()
	if err != nil {
		return nil, err
	}
	if err := k.wake(ctx, now); err != nil {
		return nil, err
	}
	keys := k.set.keys
	if age := now.Sub(k.set.read); k.set.signed == nil || k.set.version < version || age >= keySetFresh || age < 0 {
		if keys, err = k.tables.published(ctx, now); err != nil {
			return nil, err
		}
		k.set.read, k.set.version = now, max(k.set.version, version)
	}
	same := slices.EqualFunc(keys, k.set.keys, func(a, b json.RawMessage) bool { return bytes.Equal(a, b) })
	young := now.Unix()-k.set.iat < int64(keySetLife/4/time.Second)
	if k.set.signed != nil && same && young && bytes.Equal(k.set.leaf, svid.Certificates[0].Raw) {
		return k.set.signed, nil
	}
	s, err := newSigner(svid.PrivateKey)
	if err != nil {
		return nil, fmt.Errorf("sign the keys with the own certificate: %w", err)
	}
	iat := max(now.Unix(), k.set.iat)
	claims, err := encode(keySetClaims{
		Issuer: svid.ID.String(), IssuedAt: iat, Expires: min(iat+int64(keySetLife/time.Second), svid.Certificates[0].NotAfter.Unix()), Keys: keys,
	})
	if err != nil {
		return nil, fmt.Errorf("encode the keys: %w", err)
	}
	message := &tokensv1.SignedKeys{}
	if message.Jws, err = s.sign(keySetType, claims); err != nil {
		return nil, err
	}
	for _, c := range svid.Certificates {
		message.Chain = append(message.Chain, c.Raw)
	}
	k.set = keySet{read: k.set.read, version: k.set.version, keys: keys, leaf: svid.Certificates[0].Raw, iat: iat, signed: message}
	return message, nil
}
