package node

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors"
)

// healthService is gRPC's own, but its Watch streams end when the node stops: they have no other end.
type healthService struct {
	*health.Server
	server   *interceptors.Server
	stopping <-chan struct{}
}

func registerHealth(server *interceptors.Server, stopping <-chan struct{}) *healthService {
	h := &healthService{Server: health.NewServer(), server: server, stopping: stopping}
	h.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(server, h)
	return h
}

// serving reports the server as a whole and each of its services as SERVING.
func (h *healthService) serving() {
	for name := range h.server.GetServiceInfo() {
		h.SetServingStatus(name, healthv1.HealthCheckResponse_SERVING)
	}
	h.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
}

// Watch sends the state of a service, and each change of it.
func (h *healthService) Watch(req *healthv1.HealthCheckRequest, stream grpc.ServerStreamingServer[healthv1.HealthCheckResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	go func() {
		select {
		case <-h.stopping:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := h.Server.Watch(req, watchStream{stream, ctx})
	if stream.Context().Err() == nil && ctx.Err() != nil {
		return status.Error(codes.Unavailable, "the server is stopping: watch another one, or this one again")
	}
	return err
}

type watchStream struct {
	grpc.ServerStreamingServer[healthv1.HealthCheckResponse]
	ctx context.Context
}

func (s watchStream) Context() context.Context { return s.ctx }
