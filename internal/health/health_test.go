package health_test

import (
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"example.com/rolecall/interceptors"
	meshhealth "example.com/rolecall/internal/health"
	"example.com/rolecall/rolecalltest"
)

func newGuard(t *testing.T, source interceptors.Source, bindings interceptors.Bindings) *interceptors.Guard {
	t.Helper()
	guard, err := interceptors.New(source, bindings, interceptors.Audit(slog.DiscardHandler), interceptors.Logger(slog.New(slog.DiscardHandler)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { guard.Close() })
	return guard
}

func serve(t *testing.T, ca *rolecalltest.CA) (string, *health.Server) {
	t.Helper()
	guard := newGuard(t, ca.Source("/service/ledger"), interceptors.BindingsYAML([]byte("trustDomain: mesh.local\n")))
	server := guard.NewServer()
	h := health.NewServer()
	healthv1.RegisterHealthServer(server, h)
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(lis) }()
	t.Cleanup(func() { server.Stop(); <-served })
	return lis.Addr().String(), h
}

func TestCheckShowsStatusAndCertificate(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	address, h := serve(t, ca)
	guard := newGuard(t, ca.Source("/supervisor"), nil)
	answer, err := meshhealth.Check(t.Context(), guard, address, ca.ID("/service/ledger"))
	if err != nil {
		t.Fatal(err)
	}
	if !answer.Serving() || answer.Certificate == nil || answer.Certificate.URIs[0].Path != "/service/ledger" {
		t.Errorf("answer %+v, want SERVING with the ledger's certificate", answer)
	}
	h.Shutdown()
	if answer, err = meshhealth.Check(t.Context(), guard, address, ca.ID("/service/ledger")); err != nil || answer.Serving() {
		t.Errorf("after shutdown: %+v, %v; want NOT_SERVING", answer, err)
	}
}

func TestAServerThatProvesToBeAnotherIsNoAnswer(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	address, _ := serve(t, ca)
	guard := newGuard(t, ca.Source("/supervisor"), nil)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if answer, err := meshhealth.Check(ctx, guard, address, ca.ID("/service/orders")); err == nil {
		t.Errorf("the ledger passed for orders: %+v", answer)
	}
}

func TestWaitEndsWhenTheServerServesAndTellsTheLastAnswerWhenItDoesNot(t *testing.T) {
	t.Parallel()
	ca := rolecalltest.NewCA(t, "mesh.local")
	address, h := serve(t, ca)
	h.SetServingStatus("", healthv1.HealthCheckResponse_NOT_SERVING)
	guard := newGuard(t, ca.Source("/supervisor"), nil)
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := meshhealth.Wait(short, guard, address, ca.ID("/service/ledger")); err == nil || !strings.Contains(err.Error(), "SERVING") {
		t.Errorf("wait for a server that does not serve: %v", err)
	}
	waited := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	go func() { waited <- meshhealth.Wait(ctx, guard, address, ca.ID("/service/ledger")) }()
	h.SetServingStatus("", healthv1.HealthCheckResponse_SERVING)
	if err := <-waited; err != nil {
		t.Errorf("wait for a server that serves: %v", err)
	}
}
