// Package exactlyonce enforces exactly_once: a request takes effect once, however often it is sent, and every repetition
// gets the response of the first one, byte for byte. It is a feature of the guard, for a service with a database.
//
//	once := exactlyonce.New(exactlyonce.Config{DB: exactlyonce.PostgreSQL(db)}) // or SQLite(db), with its one connection
//	guard, err := interceptors.New(source, interceptors.BindingsFile("roles.yaml"), interceptors.With(once))
//
// # Local form
//
// Claim, effect and response are one transaction. The handler works in it, and calls no other service:
//
//	func (s *ledger) Transfer(ctx context.Context, req *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
//		_, err := exactlyonce.Tx(ctx).ExecContext(ctx, "UPDATE accounts SET balance = balance - $1 WHERE ...", ...)
//
// The handler may run several times for one request, in transactions of which one at most is committed, so it has no effect
// outside of them: what is to follow goes into Afterwards, slow work that is to come first into Beforehand. Interceptors that
// the server was given with grpc.ChainUnaryInterceptor run inside the transaction as well, once for each time, so they do not
// wait for anything.
//
// A handler returns after a statement that failed. SQLite rolls back the whole transaction where a statement that writes was
// interrupted, or the disk is full, and what the handler goes on to write is then outside of any. This is found out when it
// returns: the caller gets INTERNAL, the log an error, and nothing is stored; but what was written so stays.
//
// # Saga form
//
// A method that does call others has one transaction before, the calls, and one transaction after:
//
//	exactlyonce.OnResume(once, ordersv1.OrdersService_PlaceOrder_FullMethodName, s.resumeOrder) // before Serve
//
//	func (s *orders) PlaceOrder(ctx context.Context, req *ordersv1.PlaceOrderRequest) (*ordersv1.PlaceOrderResponse, error) {
//		saga := exactlyonce.SagaFrom(ctx)
//		err := saga.Begin(ctx, func(ctx context.Context) error { return insert(ctx, exactlyonce.Tx(ctx), pending) })
//		...                               // calls, with the request_id saga.Child("pay")
//		return resp, saga.Finish(ctx, resp, func(ctx context.Context) error { return update(ctx, exactlyonce.Tx(ctx), paid) })
//
// What has begun is finished: by the handler, or after a crash by what was given to OnResume, in whichever replica is up.
//
// # What is stored
//
// A response, and a refusal of the handler with the code INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, FAILED_PRECONDITION or
// OUT_OF_RANGE, with its details; the refusal of an interceptor that did not let the request through to the handler is not.
// Every other error undoes what the handler did, and the request may be sent again. A proof that came along is used up with
// what is stored, and not with what is undone.
//
// A request is known by its peer, signer, user, method and request_id: a UUID of 36 characters, in which case does not matter.
// The same request_id with another payload is refused; fields marked debug_redact, such as passwords, do not count as payload,
// so that no fast hash of them is stored. Fields that the service does not know do count. When a new version of it has learned
// one, a repetition from before is still the same request, unless the field is marked debug_redact, or lies in a message inside
// of the request with a number below that of others there. Outcomes are forgotten some minutes after Config.Keep: then the same
// request_id is a new request.
//
// What the package does not do: it makes no other service's effects undone, and it cannot help a handler that has effects
// outside of its database and of calls that take effect once themselves.
package exactlyonce
