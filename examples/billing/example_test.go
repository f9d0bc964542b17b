package main

import (
	"context"
	"log"
	"net"

	"github.com/spiffe/go-spiffe/v2/workloadapi"

	billingv1 "example.com/rolecall/examples/billing/gen/billing/v1"
	"example.com/rolecall/interceptors"
)

// The least that a guarded server is made of; the README shows it.
func Example() {
	source, err := workloadapi.NewX509Source(context.Background()) // rolecall's agent, or SPIRE's
	check(err)
	guard, err := interceptors.New(source, interceptors.BindingsFile("roles.yaml"))
	check(err)
	srv := guard.NewServer() // a gRPC server inside; your grpc.ServerOptions are welcome
	billingv1.RegisterBillingServiceServer(srv, &billing{})
	lis, err := net.Listen("tcp", ":7450")
	check(err)
	check(srv.Serve(lis)) // refuses to start if any method lacks a policy
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
