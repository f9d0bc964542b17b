// Package feature is where the guard and its features meet. A feature enforces annotations that ask for more than a
// workload's role; each is a package of its own beside interceptors, so that only who uses one brings its modules.
package feature

import (
	"context"
	"crypto"
	"encoding/json"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// Feature enforces annotations of one kind.
type Feature interface {
	// Annotations returns the names of those that it enforces, as they stand in proto files: "requires_user".
	Annotations() []string
	// Start puts it to work for one guard.
	Start(Env) (Running, error)
}

// Running is a feature at work. What it does is said by the further interfaces that it implements: Users, Proofs, Once,
// Serving, Calling.
type Running interface {
	// Close ends what Start began. Called once, after the guard's servers have stopped; a handler that does not look at its
	// context may still run, and gets errors from then on.
	Close() error
}

// Env is what a guard lends its features.
type Env struct {
	TrustDomain spiffeid.TrustDomain
	Source      interface {
		x509svid.Source
		x509bundle.Source
	}
	// NewClient makes a client of another service of the mesh, guarded like any other.
	NewClient func(target string, server spiffeid.ID, opts ...grpc.DialOption) (*grpc.ClientConn, error)
	// DeniedKey tells whether bindings deny the key, by the SHA-256 of its SubjectPublicKeyInfo, to the holder of an ID.
	DeniedKey func(id spiffeid.ID, key [32]byte) bool
	Now       func() time.Time
	Log       *slog.Logger
	Meters    metric.MeterProvider
	// Describe tells what the annotations of a method say that a client calls, from the descriptors that the process holds.
	Describe func(fullMethod string) Method
}

// Serving is a feature that wants to know what it will enforce.
type Serving interface {
	Running
	// Serve is called before a server of the guard starts, with those of its methods that carry one of the feature's
	// annotations. An error keeps the server from starting.
	Serve(methods []Method) error
}

// Calling is a feature that has a part in the calls of the guard's clients.
type Calling interface {
	Running
	// Client returns interceptors for one client of the guard, which become the innermost. Either may be nil.
	Client(ClientEnv) (grpc.UnaryClientInterceptor, grpc.StreamClientInterceptor)
}

// ClientEnv is what a guard lends a feature for one client.
type ClientEnv struct {
	// Server is the SPIFFE ID of the server that the client talks to.
	Server spiffeid.ID
	// CloseOld closes the client's connections on which another than the present certificate was shown, and tells whether
	// there was one. It returns when gRPC has noticed, so that no call begins on them any more, and after 5 s at most.
	CloseOld func() bool
}

// Method is what annotations say of a method.
type Method struct {
	Full         string // "/ledger.v1.LedgerService/Transfer"; empty: there is no descriptor of it
	Proof        bool   // requires_proof
	ExactlyOnce  bool   // exactly_once
	Idempotent   bool   // exactly_once, or idempotency_level IDEMPOTENT or NO_SIDE_EFFECTS
	ClientStream bool
	ServerStream bool
}

// Proofs verifies signed requests, and signs what was answered. Safe for concurrent use.
type Proofs interface {
	Running
	// Verify returns what a proof says, or why it is not good. It asks no policy: whether the signer holds a role, and is not
	// denied by its ID, is the guard's to decide. Nothing is used up.
	Verify(context.Context, *SignedCall) (proof *Proof, verdict Verdict, detail string)
	// Burn uses the proof up: Replayed if that has happened before, Full if the signer has used up too many of late.
	Burn(context.Context, *Proof) (Verdict, string)
	// Allow is Burn without using the proof up, for a proof that is burned in the transaction of its effect: Full if the signer
	// has used up too many of late.
	Allow(*Proof) (Verdict, string)
	// Standing tells whether the key of a proof that Verify returned is still good: the certificate that vouches for it has
	// neither expired nor lost its root. It is asked of relayed proofs, as often as the guard decides about the peer, and waits
	// for nobody.
	Standing(*Proof) (Verdict, string)
	// Receipt signs the answer to a request.
	Receipt(proof *Proof, response []byte) (string, error)
}

// SignedCall is a request that came with a proof.
type SignedCall struct {
	Method   string
	Text     string      // the metadata rolecall-proof
	Body     []byte      // the exact bytes of the request message
	Token    string      // the access token that came along; empty for none
	Narrowed bool        // the metadata rolecall-role-subset came along
	Subset   []string    // its values as they came: each a list separated by spaces, several of them intersect
	Metadata metadata.MD // all that came along
	Peer     spiffeid.ID
	PeerKey  crypto.PublicKey // of the certificate that the peer showed
}

// Proof is what a verified proof says. Immutable.
type Proof struct {
	Signer   spiffeid.ID
	Key      [32]byte // SHA-256 of the signing key's SubjectPublicKeyInfo
	Relayed  bool     // the signer is not the peer
	Nonce    string
	Issued   time.Time
	Expires  time.Time
	Narrowed bool     // the signer gave up roles for this request
	Roles    []string // if Narrowed, what it kept, as in SignedCall.Subset; none: nothing
	Own      any      // the feature's own, which nobody else looks at
}

// Once sees that requests take effect once. Safe for concurrent use.
type Once interface {
	Running
	// Do answers a request from what is stored, or runs it, burning its proof in the same transaction. If the verdict is Good,
	// the response, in its exact bytes, or the error is what the caller gets. run may be called several times, one after the
	// other, before Do returns; it does not panic. Its context is one made from ctx. An error of it that is an Unreached is not
	// stored.
	Do(ctx context.Context, call *OnceCall, run func(context.Context) (proto.Message, error)) (response []byte, verdict Verdict, detail string, err error)
}

// Unreached is the error of a run in which the handler was not reached: an interceptor in front of it has refused, or the
// guard. What it says of the request may be another thing the next time, so it is never stored.
type Unreached struct{ Err error }

func (u Unreached) Error() string { return u.Err.Error() }

// Unwrap returns the error itself, which is what the caller gets.
func (u Unreached) Unwrap() error { return u.Err }

// OnceCall is a request that is to take effect once. All of it but the message and the proof is part of its key.
type OnceCall struct {
	Method  string
	Peer    string // SPIFFE ID
	Signer  string // SPIFFE ID; empty for a method without proof
	User    string // as interceptors.User.Key names users: "user:alice"; empty for none
	Message proto.Message
	Proof   *Proof // nil for a method without proof
}

type transactionKey struct{}

// InTransaction marks a context as that of an open transaction, in which no other service may be called: the transaction
// would hold its locks until that one answers.
func InTransaction(ctx context.Context) context.Context {
	return context.WithValue(ctx, transactionKey{}, true)
}

// Transaction tells whether a context is that of an open transaction.
func Transaction(ctx context.Context) bool { return ctx.Value(transactionKey{}) != nil }

// Users verifies the access tokens of users. Safe for concurrent use.
type Users interface {
	Running
	// Verify returns the user that a token speaks for, or why not. The detail is for the audit record alone, and holds
	// nothing secret.
	Verify(token string) (user *User, verdict Verdict, detail string)
	// Standing tells whether a user whom Verify returned is still good: the token has not expired and was not revoked. It
	// is asked before each message, and takes no lock.
	Standing(*User) Verdict
	// LoginMethod is the full method that gives out tokens, for callers that come without one; "" if there is none.
	LoginMethod() string
}

// User is what a verified token says. Immutable.
type User struct {
	Issuer     string
	Own        bool // of the mesh's own tokens service, the one that the feature was configured with
	Subject    string
	Roles      []string // what the user holds by this token, before includes
	Subset     []string // what is left of it, before includes; counts if Narrowed
	Narrowed   bool
	ClientID   string // the workload that the user logged in through
	Session    string // the family of refresh tokens
	Generation uint64
	IssuedAt   time.Time
	Expires    time.Time
	AuthTime   time.Time       // zero if the token does not say
	Attributes json.RawMessage // nil if there are none
	Token      string          // as it came: what is passed on to the next service
	Vouched    uint64          // the feature's own: which view of its keys the token was verified with
}

// Verdict is what there is to say of a token, a proof or a request.
type Verdict uint8

// The verdicts.
const (
	Good        Verdict = iota
	Invalid             // malformed, of another issuer or audience, a bad signature
	Expired             // the token or the proof is past its end
	Revoked             // tokens: its session, or all sessions of the user
	Unavailable         // nobody can tell yet: keys, revocations or a database are missing
	Unknown             // proofs: nobody knows the signer's key
	Replayed            // proofs: used before
	Full                // proofs: the signer has used up too many of late
	NoRequestID         // requests: request_id is missing, or no UUID
	Reused              // requests: the request_id was used before, with another payload
	InProgress          // requests: the first one with this request_id still runs
	TooMany             // requests: as many of the caller are remembered as may be
)
