package proof

import (
	"context"
	"maps"
	"sync/atomic"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/identity"
)

// proving signs a request on the connection that gRPC has chosen for it, with the key of the certificate that was shown there:
// a server finds that one without asking anybody, on whichever of its replicas' connections, and however often the own
// certificate was renewed since. It is the credentials of one call.
type proving struct {
	client    *client
	statement *statement
	others    credentials.PerRPCCredentials // those that the caller has given; nil: none
	last      atomic.Pointer[made]
}

// GetRequestMetadata implements credentials.PerRPCCredentials. gRPC asks again for each attempt that it makes by itself, which
// gets a proof of its own.
func (p *proving) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	md := map[string]string{}
	if p.others != nil {
		others, err := p.others.GetRequestMetadata(ctx, uri...)
		if err != nil {
			return nil, err
		}
		maps.Copy(md, others)
	}
	by, err := p.client.credentialOn(identity.FromContext(ctx))
	var m *made
	if err == nil {
		m, err = p.statement.sign(by, p.client.env.Now(), p.client.cfg.Life)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "proof: sign the call of %s: %v", p.statement.method, err)
	}
	p.last.Store(m)
	md[proofKey] = m.text
	return md, nil
}

// RequireTransportSecurity implements credentials.PerRPCCredentials.
func (p *proving) RequireTransportSecurity() bool { return true }

// credentialsIn returns the credentials among the options of a call; nil if there are none.
func credentialsIn(opts []grpc.CallOption) (found credentials.PerRPCCredentials) {
	for _, opt := range opts {
		if given, ok := opt.(grpc.PerRPCCredsCallOption); ok {
			found = given.Creds // of several gRPC takes the last
		}
	}
	return found
}
