// Package proof has the requests to a method signed, and so enforces requires_proof: what a handler is asked was asked by the
// workload that signed it, in these very bytes, of this server, just now, and never before.
//
//	proofs := proof.New(proof.Config{Target: "dns:///keys:7442", Server: keysID, MarkFile: "proofs.mark"})
//	guard, err := interceptors.New(source, bindings, interceptors.With(proofs))
//
// Nothing changes where calls are made or served. A client of the guard knows from the descriptors which methods ask for a
// proof, and signs those calls with the key of the workload's certificate; a server of the guard verifies before its handler
// runs, and signs what it answers; the client verifies that in turn.
//
// # What a proof says
//
// It is a JWS in the metadata rolecall-proof, with ES256, the type rolecall-proof+jwt, and the RFC 7638 thumbprint of the key
// as kid; the header holds nothing else, least of all a key. The idea is WIMSE's workload proof token, extended by the body of
// the message and by an answer. All claims are compared, and one that is not known is refused:
//
//	iss    the signer's SPIFFE ID
//	aud    the server's
//	mth    the method in full
//	bth    SHA-256 of the request's bytes, before compression
//	jti    16 random bytes, good once
//	iat    when it was made; exp at most 60 s later
//	roles  the values of rolecall-role-subset, if the signer has given up roles
//	via    the SPIFFE ID of who alone may pass it on, if the signer has named one (Via)
//	ath    SHA-256 of the access token, if one goes along
//	mdk    the names of the other metadata that came along, and mdh SHA-256 of their values
//
// The bytes are those on the wire: a client with a newer schema sends fields that the server does not know, and both hash
// the same. The metadata that gRPC, tracing and this package set is not covered, nor what credentials add that were given to a
// client with grpc.WithPerRPCCredentials: give them to the call, and it is. Config.Metadata names what handlers read: such
// metadata must be covered.
//
// # Whose key
//
// A call is signed when its connection has been chosen, with the key of the certificate that was shown on that connection: a
// server finds it there and asks nobody, however often the certificate was renewed since. For all other keys the key server is
// asked. It is a directory and no authority: it tells a certificate chain, and the verifier checks that as if a peer had
// shown it, against its own bundle and bindings, now and whenever the key is used, and for as long as a stream lasts. Keys are
// remembered, so that a key server that is down stops only who is new. Each workload announces its certificate there, again
// after each rotation, and signs what others are to pass on (Signer) with the key before until the new one is acknowledged.
// Without a key server nobody can relay, and all else works.
//
// Forward passes on nothing but requests that the server verifies: a descriptor that is linked into the relay's program must
// say that the method asks for a proof. Who signs for a relay names it with Via; who relays reads that with Claimed.
//
// # Once
//
// The nonce is used up when everything else holds, so that nobody can burn another's. A Window remembers it until the proof
// has expired: in the memory of the process, exactly, bounded for each signer, where each of the first thousand has a share that
// nobody else can use up; or PostgreSQLWindow, in a database that replicas share. Methods with exactly_once burn in the
// transaction of their effect instead. When the server is started again, the memory is empty: MarkFile says up to when proofs
// may have been accepted, and those are refused as PROOF_EXPIRED, which clients answer with a new proof. Nor does a clock that
// is set back make a proof good again: what the window has forgotten stays refused. A window that is full or cannot be asked
// refuses.
//
// # The answer
//
// A receipt comes in the trailer rolecall-receipt, a JWS of the type rolecall-receipt+jwt: iss is the server, aud the signer of
// the request, prf the nonce of its proof, bth SHA-256 of the response's bytes, with mth and iat. The client verifies all of it
// before the caller sees the response; DATA_LOSS says that it did not hold, and that the request may have taken effect. The
// answer to a relayed request is for its signer to verify, with Feature.VerifyReceipt. Errors and streams carry no receipt.
//
// # Again
//
// A proof is good once, so each attempt of a call has a proof of its own. After PROOF_EXPIRED nothing has happened, and the
// client goes on for twice the leeway and a second, with growing pauses, within the deadline: a server that has just started
// takes no proofs of its first seconds. After UNAVAILABLE and ABORTED it makes another attempt where the method is idempotent,
// four in all. A stream is opened again after PROOF_EXPIRED alone, as long as nothing has come back.
//
// # What it does not do
//
// A proof hides nothing, TLS does that. It says nothing about who may call: the guard asks the bindings about the signer as it
// does about the peer. Streams of requests cannot be signed, and a server with such a method does not start. Of a server
// stream the request is signed, and its messages are vouched for by TLS alone.
package proof
