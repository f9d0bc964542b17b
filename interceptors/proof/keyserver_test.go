package proof_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"maps"
	"sync"
	"sync/atomic"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	keysv1 "example.com/rolecall/gen/keys/v1"
	rolecallv1 "example.com/rolecall/gen/rolecall/v1"
	"example.com/rolecall/interceptors/internal/jws"
)

// keyServer is a key server that can be made to lie.
type keyServer struct {
	keysv1.UnimplementedKeysServiceServer
	asked   atomic.Int64 // for all keys of a workload
	checked atomic.Int64 // for one key

	mu        sync.Mutex
	announced map[string]int                 // how often, by SPIFFE ID
	chains    map[string]map[string][][]byte // by SPIFFE ID and thumbprint
	lie       func(id, kid string) [][]byte  // nil: the truth
	refuse    error                          // what announcements get
	hold      chan struct{}                  // if there is one, questions wait for its end
}

func newKeyServer() *keyServer {
	return &keyServer{announced: map[string]int{}, chains: map[string]map[string][][]byte{}}
}

func (k *keyServer) Announce(ctx context.Context, _ *keysv1.AnnounceRequest) (*keysv1.AnnounceResponse, error) {
	p, _ := peer.FromContext(ctx)
	state := p.AuthInfo.(credentials.TLSInfo).State
	kid, err := jws.Thumbprint(state.PeerCertificates[0].PublicKey.(*ecdsa.PublicKey))
	if err != nil {
		return nil, err
	}
	id := state.PeerCertificates[0].URIs[0].String()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.announced[id]++
	if k.refuse != nil {
		return nil, k.refuse
	}
	if k.chains[id] == nil {
		k.chains[id] = map[string][][]byte{}
	}
	k.chains[id][kid] = raws(state.PeerCertificates...)
	return &keysv1.AnnounceResponse{Kid: kid, ExpireTime: timestamppb.New(state.PeerCertificates[0].NotAfter)}, nil
}

func (k *keyServer) GetKeys(ctx context.Context, req *keysv1.GetKeysRequest) (*keysv1.GetKeysResponse, error) {
	count := &k.asked
	if req.GetKid() != "" {
		count = &k.checked
	}
	count.Add(1)
	k.mu.Lock()
	hold, chains := k.hold, maps.Clone(k.chains[req.GetSpiffeId()])
	if k.lie != nil {
		chains = map[string][][]byte{}
		if chain := k.lie(req.GetSpiffeId(), req.GetKid()); chain != nil {
			chains[kidOfChain(chain, req.GetKid())] = chain
		}
	}
	k.mu.Unlock()
	if hold != nil && req.GetKid() == "" {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, status.FromContextError(ctx.Err()).Err()
		}
	}
	answer := &keysv1.GetKeysResponse{}
	for kid, chain := range chains {
		if req.GetKid() == "" || req.GetKid() == kid {
			answer.Keys = append(answer.Keys, &keysv1.Key{SpiffeId: req.GetSpiffeId(), Kid: kid, Chain: chain})
		}
	}
	if len(answer.Keys) == 0 {
		return nil, status.Error(codes.NotFound, "no such key")
	}
	return answer, nil
}

// kidOfChain returns the name of the leaf's key, if it has one.
func kidOfChain(chain [][]byte, otherwise string) string {
	if len(chain) > 0 {
		if leaf, err := x509.ParseCertificate(chain[0]); err == nil {
			if key, ok := leaf.PublicKey.(*ecdsa.PublicKey); ok {
				if kid, err := jws.Thumbprint(key); err == nil {
					return kid
				}
			}
		}
	}
	return otherwise
}

// holding has questions for all keys of a workload wait, until the returned function is called.
func (k *keyServer) holding() (release func()) {
	k.mu.Lock()
	defer k.mu.Unlock()
	hold := make(chan struct{})
	k.hold = hold
	return sync.OnceFunc(func() {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.hold = nil
		close(hold)
	})
}

// announcements returns how often a workload has announced a key, or tried to.
func (k *keyServer) announcements(id string) int {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.announced[id]
}

// knows tells whether a workload has announced a key.
func (k *keyServer) knows(id, kid string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.chains[id][kid] != nil
}

// tell records a chain as if it had been announced.
func (k *keyServer) tell(id, kid string, chain [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.chains[id] == nil {
		k.chains[id] = map[string][][]byte{}
	}
	k.chains[id][kid] = chain
}

// lying sets what the key server answers in place of the truth.
func (k *keyServer) lying(lie func(id, kid string) [][]byte) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lie = lie
}

func (k *keyServer) refusing(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refuse = err
}

// forget loses everything that was announced.
func (k *keyServer) forget() {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.chains)
}

func raws(certs ...*x509.Certificate) [][]byte {
	var chain [][]byte
	for _, cert := range certs {
		chain = append(chain, cert.Raw)
	}
	return chain
}

type (
	signedRequest  = rolecallv1.SignedRequest
	signedResponse = rolecallv1.SignedResponse
)
