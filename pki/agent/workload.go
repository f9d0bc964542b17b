package agent

import (
	"context"
	"crypto/x509"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/proto/spiffe/workload"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// workloadAPI is the SPIFFE Workload API. Methods that are not here answer Unimplemented.
type workloadAPI struct {
	workload.UnimplementedSpiffeWorkloadAPIServer
	server *Server
}

// FetchX509SVID streams all certificates that the caller is entitled to, with keys and the bundle, whole each time
// (Workload API §5.2.1).
func (w workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return follow(stream.Context(), w.server, true, func(svids []*svid) *workload.X509SVIDResponse {
		bundle := concatenate(w.server.bundle.Load().X509Authorities())
		response := &workload.X509SVIDResponse{}
		for _, s := range svids {
			response.Svids = append(response.Svids, &workload.X509SVID{
				SpiffeId: s.id.String(), X509Svid: concatenate(s.chain), X509SvidKey: s.key, Bundle: bundle,
			})
		}
		return response
	}, stream.Send)
}

// FetchX509Bundles streams the bundles that the caller may verify with: that of its trust domain (§5.2.2).
func (w workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return follow(stream.Context(), w.server, false, func([]*svid) *workload.X509BundlesResponse {
		bundle := w.server.bundle.Load()
		return &workload.X509BundlesResponse{Bundles: map[string][]byte{
			bundle.TrustDomain().IDString(): concatenate(bundle.X509Authorities()),
		}}
	}, stream.Send)
}

// SetBundle replaces the roots; every open stream is told if they differ.
func (s *Server) SetBundle(bundle *x509bundle.Bundle) {
	if old := s.bundle.Load(); old != nil && old.Equal(bundle) {
		return
	}
	s.bundle.Store(bundle.Clone())
	s.registry.notify()
}

func concatenate(certs []*x509.Certificate) []byte {
	var der []byte
	for _, cert := range certs {
		der = append(der, cert.Raw...)
	}
	return der
}

// securityHeader is what every call must carry (Workload Endpoint §6.2): a program that was tricked into connecting to
// the socket does not know to send it.
const securityHeader = "workload.spiffe.io"

func checkHeader(ctx context.Context) error {
	md, _ := metadata.FromIncomingContext(ctx)
	if values := md.Get(securityHeader); len(values) != 1 || values[0] != "true" {
		return status.Errorf(codes.InvalidArgument, "security header missing: metadata %s must be exactly %q", securityHeader, "true")
	}
	return nil
}

func checkUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	if err := checkHeader(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func checkStream(srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := checkHeader(stream.Context()); err != nil {
		return err
	}
	return handler(srv, stream)
}
