// Package identity makes TLS connections on which both ends have shown a valid X.509-SVID, and says who the other end is.
//
// A connection's peer is verified once, at the handshake, by go-spiffe's verifier and by the stricter certificate profile
// of this package. What was found is kept in a Conn, which FromContext gives back for every RPC on that connection.
// Whether the peer is STILL to be trusted (its certificate valid, its root in the bundle) is asked with Conn.Expired and
// Conn.Trusted, as often as the caller likes.
//
// The package does not know roles or bindings; whether a verified peer is welcome is decided elsewhere.
package identity
