package proof

import (
	"context"
	"strings"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
)

// callCredentials sign a request on the connection that gRPC has chosen for it, with the key of the certificate that was shown
// there: a server finds that one without asking anybody, on whichever of its replicas' connections, and however often the own
// certificate was renewed since.
type callCredentials struct {
	client    *client
	statement statement
	metadata  metadata.MD                   // of the call; nobody writes to it
	others    credentials.PerRPCCredentials // those that the caller has given; nil: none
	last      atomic.Pointer[made]
}

// GetRequestMetadata implements credentials.PerRPCCredentials. gRPC asks again for each attempt that it makes by itself, which
// gets a proof of its own.
func (p *callCredentials) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	md, about := map[string]string{}, p.statement
	if p.others != nil {
		others, err := p.others.GetRequestMetadata(ctx, uri...)
		if err != nil {
			return nil, err
		}
		all := p.metadata.Copy()
		for name, value := range others { // gRPC sends it in lower case, and before the metadata of the call
			name = strings.ToLower(name)
			md[name] = value
			all[name] = append([]string{value}, p.metadata[name]...)
		}
		about.cover(all)
	}
	by, err := p.client.credentialOn(identity.FromContext(ctx))
	var m *made
	if err == nil {
		m, err = about.sign(by, p.client.env.Now(), p.client.cfg.Life)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "proof: sign the call of %s: %v", p.statement.method, err)
	}
	p.last.Store(m)
	md[feature.ProofKey] = m.text
	return md, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (p *callCredentials) RequireTransportSecurity() bool { return true }

// credentialsIn returns the credentials among the options of a call; nil if there are none.
func credentialsIn(opts []grpc.CallOption) (found credentials.PerRPCCredentials) {
	for _, opt := range opts {
		if given, ok := opt.(grpc.PerRPCCredsCallOption); ok {
			found = given.Creds // of several gRPC takes the last
		}
	}
	return found
}
