package rolecalltest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"time"

	"google.golang.org/grpc"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
)

// tokensService is what verifiers ask of Users.
type tokensService struct {
	tokensv1.UnimplementedTokensServiceServer
	users *Users
}

// GetKeys implements the tokens service.
func (s *tokensService) GetKeys(context.Context, *tokensv1.GetKeysRequest) (*tokensv1.GetKeysResponse, error) {
	return &tokensv1.GetKeysResponse{Keys: s.users.keys()}, nil
}

// WatchRevocations implements the tokens service.
func (s *tokensService) WatchRevocations(_ *tokensv1.WatchRevocationsRequest, stream grpc.ServerStreamingServer[tokensv1.WatchRevocationsResponse]) error {
	u := s.users
	beat := time.NewTicker(5 * time.Second)
	defer beat.Stop()
	sent := 0
	say := func(m *tokensv1.WatchRevocationsResponse) error {
		m.Epoch, m.Sequence = "test", int64(sent)
		return stream.Send(m)
	}
	err := say(&tokensv1.WatchRevocationsResponse{Change: &tokensv1.WatchRevocationsResponse_Keys{Keys: s.users.keys()}})
	for complete := false; err == nil; {
		u.mu.Lock()
		news, changed := u.raised[sent:], u.changed
		u.mu.Unlock()
		for _, m := range news {
			if err := stream.Send(m); err != nil {
				return err
			}
			sent++
		}
		if !complete {
			complete, err = true, say(&tokensv1.WatchRevocationsResponse{Change: &tokensv1.WatchRevocationsResponse_SnapshotComplete{}})
			continue
		}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-changed:
		case <-beat.C:
			err = say(&tokensv1.WatchRevocationsResponse{Change: &tokensv1.WatchRevocationsResponse_Heartbeat{}})
		}
	}
	return err
}

// keys returns the public key under a signature of the tokens service's certificate.
func (u *Users) keys() *tokensv1.SignedKeys {
	svid, err := u.source.GetX509SVID()
	if err != nil {
		u.ca.t.Fatalf("certificate of the tokens service: %v", err)
	}
	x, y, err := coordinates(&u.key.PublicKey)
	if err != nil {
		u.ca.t.Fatalf("public key: %v", err)
	}
	now := time.Now()
	signed := &tokensv1.SignedKeys{Chain: chainOf(svid.Certificates), Jws: u.sign(svid.PrivateKey, "rolecall-keys+jwt", map[string]any{
		"iss": svid.ID.String(), "iat": now.Unix(), "exp": now.Add(time.Hour).Unix(), "keys": []map[string]string{
			{"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "test", "alg": "ES256", "use": "sig"},
		},
	})}
	return signed
}

// coordinates returns those of a public key on P-256 as a JWK has them (RFC 7518 section 6.2.1).
func coordinates(key *ecdsa.PublicKey) (x, y string, err error) {
	point, err := key.Bytes() // 4, x, y
	if err == nil && (len(point) != 65 || key.Curve != elliptic.P256()) {
		err = errors.New("the key is not on P-256")
	}
	if err != nil {
		return "", "", err
	}
	return base64url(point[1:33]), base64url(point[33:]), nil
}

func base64url(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

func chainOf(certs []*x509.Certificate) [][]byte {
	var chain [][]byte
	for _, cert := range certs {
		chain = append(chain, cert.Raw)
	}
	return chain
}
