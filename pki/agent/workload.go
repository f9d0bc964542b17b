package agent

import (
	"context"
	"maps"

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

// FetchX509SVID streams all certificates that the caller is entitled to, with keys and bundles, whole each time
// (Workload API §5.2.1).
func (w workloadAPI) FetchX509SVID(_ *workload.X509SVIDRequest, stream grpc.ServerStreamingServer[workload.X509SVIDResponse]) error {
	return follow(stream.Context(), w.server, svidStream, func(t *trust, svids []*svid) (*workload.X509SVIDResponse, bool) {
		response := &workload.X509SVIDResponse{FederatedBundles: t.federatedX509}
		for _, s := range svids {
			response.Svids = append(response.Svids, &workload.X509SVID{
				SpiffeId: s.id.String(), X509Svid: concatenate(s.chain), X509SvidKey: s.key, Bundle: t.roots,
			})
		}
		return response, true
	}, stream.Send)
}

// FetchX509Bundles streams the bundles that the caller may verify with: its own trust domain's and federated ones (§5.2.2).
func (w workloadAPI) FetchX509Bundles(_ *workload.X509BundlesRequest, stream grpc.ServerStreamingServer[workload.X509BundlesResponse]) error {
	return follow(stream.Context(), w.server, bundleStream, func(t *trust, _ []*svid) (*workload.X509BundlesResponse, bool) {
		bundles := maps.Clone(t.federatedX509)
		if bundles == nil {
			bundles = map[string][]byte{}
		}
		bundles[t.domain.IDString()] = t.roots
		return &workload.X509BundlesResponse{Bundles: bundles}, true
	}, stream.Send)
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
