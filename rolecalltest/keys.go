package rolecalltest

import (
	"context"
	"crypto/ecdsa"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/proof"
)

// KeysPath is the path of the SPIFFE ID of Keys.
const KeysPath = "/service/keys"

// Keys is a keys service in this process: for services with methods that require a proof, and their clients. A guard that has
// its feature signs what it sends to such methods, and verifies what it takes.
//
//	keys := rolecalltest.NewKeys(ca)
//	guard, err := interceptors.New(source, bindings, interceptors.With(keys.Feature()))
//	...
//	caller, err := interceptors.New(ca.Source("/service/shop"), nil, interceptors.With(keys.Feature()))
//	conn, err := caller.NewClient(address, ca.ID("/service/ledger"))
//
// Methods with exactly_once keep their answers in a database of the service's own, which Keys has no part in: such a guard is
// also given exactlyonce.New(exactlyonce.Config{DB: exactlyonce.SQLite(db)}). Safe for concurrent use.
type Keys struct {
	ca      *CA
	address string

	mu   sync.Mutex
	keys map[string][]*keysv1.Key // of each SPIFFE ID, newest first
}

// NewKeys starts a keys service of the CA's trust domain on a loopback port, until the test ends.
func NewKeys(ca *CA) *Keys {
	ca.t.Helper()
	k := &Keys{ca: ca, keys: map[string][]*keysv1.Key{}}
	guard, err := interceptors.New(ca.Source(KeysPath), interceptors.BindingsYAML([]byte("trustDomain: "+ca.trustDomain.Name()+"\n")),
		interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		ca.t.Fatalf("guard of the keys service: %v", err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		ca.t.Fatalf("listen: %v", err)
	}
	k.address = lis.Addr().String()
	server := guard.NewServer()
	keysv1.RegisterKeysServiceServer(server, &keysService{keys: k})
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	ca.t.Cleanup(func() {
		_ = guard.Close()
		<-served
	})
	return k
}

// Feature returns a new feature for one guard.
func (k *Keys) Feature() *proof.Feature {
	return proof.New(proof.Config{Target: k.address, Server: k.ID()})
}

// Target returns the address of the keys service.
func (k *Keys) Target() string { return k.address }

// ID returns the SPIFFE ID of the keys service.
func (k *Keys) ID() spiffeid.ID { return k.ca.ID(KeysPath) }

// Forget forgets all keys that a workload has announced so far, as if they had expired. Who has found one already knows it.
func (k *Keys) Forget(id spiffeid.ID) {
	k.mu.Lock()
	defer k.mu.Unlock()
	delete(k.keys, id.String())
}

// add puts a key first, unless it is there with a certificate that lasts as long.
func (k *Keys) add(key *keysv1.Key) {
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.keys[key.GetSpiffeId()]
	at := slices.IndexFunc(known, func(other *keysv1.Key) bool { return other.GetKid() == key.GetKid() })
	if at >= 0 {
		if !key.GetExpireTime().AsTime().After(known[at].GetExpireTime().AsTime()) {
			return
		}
		known = slices.Delete(slices.Clone(known), at, at+1)
	}
	k.keys[key.GetSpiffeId()] = append([]*keysv1.Key{key}, known...)
}

// find returns the keys of a workload, or the one of a thumbprint.
func (k *Keys) find(id, kid string) []*keysv1.Key {
	k.mu.Lock()
	defer k.mu.Unlock()
	var found []*keysv1.Key
	for _, key := range k.keys[id] {
		if kid == "" || kid == key.GetKid() {
			found = append(found, key)
		}
	}
	return found
}

// keysService is what signers and verifiers ask of Keys.
type keysService struct {
	keysv1.UnimplementedKeysServiceServer
	keys *Keys
}

// Announce implements the keys service.
func (s *keysService) Announce(ctx context.Context, _ *keysv1.AnnounceRequest) (*keysv1.AnnounceResponse, error) {
	p, _ := peer.FromContext(ctx)
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil, status.Error(codes.Internal, "no TLS")
	}
	shown := info.State.PeerCertificates
	public, ok := shown[0].PublicKey.(*ecdsa.PublicKey)
	if !ok {
		return nil, status.Error(codes.FailedPrecondition, "not a key on P-256")
	}
	kid, err := thumbprint(public)
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	key := &keysv1.Key{
		SpiffeId: interceptors.CallerFrom(ctx).ID().String(), Kid: kid, Chain: chainOf(shown), ExpireTime: timestamppb.New(shown[0].NotAfter),
	}
	s.keys.add(key)
	return &keysv1.AnnounceResponse{Kid: kid, ExpireTime: key.GetExpireTime()}, nil
}

// GetKeys implements the keys service, without the JWK set, which verifiers do not read.
func (s *keysService) GetKeys(_ context.Context, req *keysv1.GetKeysRequest) (*keysv1.GetKeysResponse, error) {
	found := s.keys.find(req.GetSpiffeId(), req.GetKid())
	if len(found) == 0 {
		return nil, status.Error(codes.NotFound, "no such key")
	}
	return &keysv1.GetKeysResponse{Keys: found}, nil
}

// thumbprint is that of RFC 7638, of a key on P-256.
func thumbprint(key *ecdsa.PublicKey) (string, error) {
	x, y, err := coordinates(key)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, x, y))
	return base64url(sum[:]), nil
}
