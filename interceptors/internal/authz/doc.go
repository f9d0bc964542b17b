// Package authz decides which workload may call which method.
//
// Two inputs meet here. The annotations of the registered methods are compiled once, when the server starts, into a
// Table: every method has an index and the set of roles that it asks for. The bindings in roles.yaml, which may change
// at any time, are bound to that table and give a Policy: for each SPIFFE ID the set of roles it holds. A decision is
// then a lookup and a comparison of two bit sets:
//
//	table, err := authz.Compile(server.GetServiceInfo(), nil, allowed, nil)
//	file, bindings, err := authz.WatchFile("roles.yaml", time.Minute, func(b *authz.Bindings, err error) { ... })
//	policy := table.Bind(bindings)
//	method := table.Method("/ledger.v1.LedgerService/Transfer")
//	ok := method != nil && (method.AnyWorkload || policy.Held(id).ContainsAll(method.Need))
//
// Tables, bindings and policies never change once made, so they are safe for concurrent use and a reload replaces them
// as a whole. What this package does not do: it verifies no certificate, and it does not know who calls. In particular
// the caller of a method with AnyWorkload must be of the own trust domain, which the code around this package checks.
package authz
