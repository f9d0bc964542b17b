// Package usertoken lets a guard verify the access tokens of users, and so enforce requires_user and requires_user_role.
//
//	users := usertoken.New(usertoken.Config{Target: "dns:///tokens:7444", Server: tokensID})
//	guard, err := interceptors.New(source, bindings, interceptors.With(users))
//
// A handler then asks interceptors.CallerFrom(ctx).User() on whose behalf it is called; what it calls in turn carries the
// user along.
//
// # What is checked
//
// Tokens are JWTs as RFC 9068 has them, under the rules of RFC 8725: the algorithm is the key's, the type is at+jwt, the
// header says nothing beyond alg, typ and kid, one issuer, one audience, and a life that is bounded. The tokens service signs
// its keys with its own certificate, which is verified like a peer's; no other place is asked for keys. Verified tokens are
// remembered until they expire, so that the next call with one makes no signature check.
//
// # Revocation
//
// The tokens service sends what it revokes on a stream, which begins with everything that was revoked within a token's
// life; until that is complete, calls with a token get VERIFIER_UNAVAILABLE. A stream that breaks is resumed where it broke;
// one with a gap in it begins anew. While it is down tokens are accepted for as long as they live, at most MaxLife, and the
// metric rolecall.user_tokens.view_age tells how old the view is.
//
// What the package does not do: it gives out no tokens, and it knows neither passwords nor refresh tokens.
package usertoken
