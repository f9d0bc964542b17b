// Package feature is where the guard and its features meet. A feature enforces annotations that ask for more than a
// workload's role; each is a package of its own beside interceptors, so that only who uses one brings its modules.
package feature

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/bundle/x509bundle"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/svid/x509svid"
	"go.opentelemetry.io/otel/metric"
	"google.golang.org/grpc"
)

// Feature enforces annotations of one kind.
type Feature interface {
	// Annotations returns the names of those that it enforces, as they stand in proto files: "requires_user".
	Annotations() []string
	// Start puts it to work for one guard.
	Start(Env) (Running, error)
}

// Running is a feature at work. What it does is said by the further interfaces that it implements: Users.
type Running interface {
	// Close ends what Start began. Called once, after the last call has ended.
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
}

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

// Verdict is what there is to say of a token.
type Verdict uint8

// The verdicts.
const (
	Good        Verdict = iota
	Invalid             // malformed, of another issuer or audience, a bad signature
	Expired             //
	Revoked             // its session, or all sessions of the user
	Unavailable         // nobody can tell yet: keys or revocations are missing
)
