// Package interceptors lets a gRPC server answer only those whom its Protobuf annotations name.
//
//	source, err := workloadapi.NewX509Source(ctx)                  // go-spiffe: rolecall's agent or SPIRE
//	guard, err := interceptors.New(source, interceptors.BindingsFile("roles.yaml"))
//	srv := guard.NewServer()                                       // a *grpc.Server inside
//	ledgerv1.RegisterLedgerServiceServer(srv, &ledger{})
//	err = srv.Serve(lis)                                           // refuses to start if a method lacks a policy
//
//	conn, err := guard.NewClient("dns:///ledger:7445", ledgerID)
//
// A method that asks for a user (requires_user, requires_user_role) needs a guard that verifies users, by a feature that is
// given with With: package usertoken has it. CallerFrom(ctx).User() then says on whose behalf a call is made, and AsUser makes
// calls on behalf of somebody. In the same way package proof enforces requires_proof, and package exactlyonce exactly_once.
//
// # The way of a call
//
// A peer shows its X.509-SVID in the TLS handshake and is verified there, once for each connection (internal/identity).
// Every RPC is then decided before its body is read, and again when the body has been (unary) or whenever a message
// passes (streams): is the certificate still valid, is its root still trusted, is the identity or its key denied, and
// does the identity hold every role that the method requires (internal/authz)? decide is that decision, for all of them. Then
// comes the user, if the call brings one: is the token good and not revoked, and does the user hold every role that the
// method requires of users? The workload's roles and the user's are never added up.
//
// Then the message is read, everything is decided again, and where the method asks for it come
//
//  1. the proof of the request: is it good for these bytes, is its signer denied, does the signer hold every role that the
//     method requires? Last of all it is used up;
//  2. what sees that the request takes effect once, which may answer it from what is stored;
//  3. inside of that, the interceptors of the server's author and the handler.
//
// A method that asks for neither pays nothing for them.
//
// An open stream is looked at again at once when the bindings or the bundle change, the certificate or the user's token
// expires, or the user is revoked. Each decision can be found in the audit record (internal/audit). A handler asks CallerFrom
// who calls, and who signed.
//
// What the package does not do: it issues no certificates, and it never looks at names in certificates, at IP addresses
// or at metadata to find out who somebody is.
package interceptors
