package interceptors_test

import (
	"errors"
	"strings"
	"testing"

	"golang.org/x/net/http2"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// attack is one row of the table of attacks on this package: what is tried, what becomes of it, and what the audit
// record says. Every row runs against a mesh of its own; the handler must not be reached by what is tried.
type attack struct {
	name    string
	verdict verdict
	audit   string // reason in the audit record; empty: gRPC itself refuses before there is anything to decide
	detail  string // in the same record; empty: whatever it is
	// run makes the attack and returns the error that the attacker gets. What it calls legitimately before, it takes
	// out of the count of handlers reached by m.ledger.reached.Store(0).
	run func(t *testing.T, m *mesh) error
	// mesh changes the mesh that is attacked.
	mesh func(*meshConfig)
}

// attacks are the tables of this package. What else has to be somewhere is in requiredAttacks.
var attacks = [][]attack{handshakeAttacks, liveAttacks, metadataAttacks, wireAttacks}

// verdict is a code and a reason, or a failed handshake, or an error of HTTP/2.
type verdict struct {
	code      codes.Code
	reason    string
	handshake bool
	http2     http2.ErrCode
}

var handshake = verdict{handshake: true}

func TestAttacks(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, table := range attacks {
		for _, a := range table {
			if names[a.name] {
				t.Errorf("%s: two rows of this name", a.name)
			}
			names[a.name] = true
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				if a.run == nil {
					t.Fatal("this row has no test")
				}
				var configure []func(*meshConfig)
				if a.mesh != nil {
					configure = append(configure, a.mesh)
				}
				m := newMesh(t, configure...)
				err := a.run(t, m)
				a.verdict.check(t, err)
				if n := m.ledger.reached.Load(); n != 0 {
					t.Errorf("a handler was reached %d times", n)
				}
				if a.audit != "" {
					t.Logf("audit: %v", m.audit.find(t, a.record()))
				}
			})
		}
	}
}

// record is what the audit log must say of the attack.
func (a attack) record() map[string]any {
	want := map[string]any{"verdict": "denied", "reason": a.audit}
	if a.verdict.handshake {
		want["event"] = "handshake"
	}
	if a.detail != "" {
		want["detail"] = a.detail
	}
	return want
}

func (v verdict) check(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatal("the attack went through")
	case v.handshake:
		if !failedHandshake(err) {
			t.Fatalf("got %v, want a failed handshake", err)
		}
		t.Logf("the attacker sees: %v", err)
	case v.http2 != http2.ErrCodeNo:
		var stream http2.StreamError
		if !errors.As(err, &stream) || stream.Code != v.http2 {
			t.Fatalf("got %v, want the stream reset with %s", err, v.http2)
		}
	default:
		refused(t, err, v.code, v.reason)
	}
}

// failedHandshake reports whether err is how a TLS or a gRPC client sees that the server would not talk to it: an alert
// or a closed connection. Silence until a deadline is neither.
func failedHandshake(err error) bool {
	if s, ok := status.FromError(err); ok {
		return s.Code() == codes.Unavailable && strings.Contains(s.Message(), "connection error: desc = ")
	}
	return strings.Contains(err.Error(), "remote error: tls: ") || hungUp(err)
}
