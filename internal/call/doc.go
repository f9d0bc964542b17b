// Package call is a client for people: it finds a method by its name, reads requests and writes responses in JSON, and explains
// what went wrong.
//
//	method, err := call.Find(call.Builtin(), "ledger/GetBalance")
//	exchange := call.Exchange{Method: method, Conn: conn, Prepare: prepare, Receive: receive}
//	err = exchange.Do(ctx, call.NewInput(method, os.Stdin))
//	for _, line := range call.NewFailure(err, "").Lines() { ... }
//
// Methods that are not of this binary are found by Reflect. Who calls, and the connection, are the caller's.
package call
