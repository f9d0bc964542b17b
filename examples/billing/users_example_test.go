package main

import (
	"context"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	billingv1 "example.com/rolecall/examples/billing/gen/billing/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/usertoken"
)

// A guard that verifies the access tokens of users; docs/users.md shows it.
func Example_users() {
	source, err := workloadapi.NewX509Source(context.Background())
	check(err)
	tokens := usertoken.New(usertoken.Config{
		Target: "dns:///tokens:7444",
		Server: spiffeid.RequireFromString("spiffe://mesh.local/service/tokens"),
	})
	guard, err := interceptors.New(source, interceptors.BindingsFile("roles.yaml"), interceptors.With(tokens))
	check(err)
	srv := guard.NewServer()
	billingv1.RegisterBillingServiceServer(srv, &personal{})
}

// The same where people log in at a company's identity provider.
func Example_issuers() {
	tokens := usertoken.New(usertoken.Config{Others: []usertoken.Issuer{{
		URL:        "https://login.example.com",
		Audience:   "billing",
		JWKSURL:    "https://login.example.com/.well-known/jwks.json",
		RolesClaim: "groups",
	}}})
	_ = interceptors.With(tokens)
}

// personal is a billing service for people. docs/users.md shows its handler.
type personal struct {
	billingv1.UnimplementedBillingServiceServer
}

func (*personal) GetStatement(ctx context.Context, req *billingv1.GetStatementRequest) (*billingv1.GetStatementResponse, error) {
	caller := interceptors.CallerFrom(ctx)
	if err := caller.RequireUserRole("billing.reader"); err != nil {
		return nil, err // USER_REQUIRED or USER_ROLE_REQUIRED, counted and recorded like the guard's own
	}
	user, _ := caller.User()
	return &billingv1.GetStatementResponse{Text: user.Subject() + " asks through " + caller.ID().String()}, nil
}
