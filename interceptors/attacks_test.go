package interceptors_test

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// attack is one row of the table of attacks on this package: what is tried, what becomes of it, and what the audit
// record says. Every row runs against a mesh of its own; the handler must not be reached by what is tried.
type attack struct {
	name    string
	verdict verdict
	audit   string // reason in the audit record; empty: gRPC itself refuses before there is anything to decide
	// run makes the attack and returns the error that the attacker gets. What it calls legitimately before, it takes
	// out of the count of handlers reached by m.ledger.reached.Store(0).
	run func(t *testing.T, m *mesh) error
	// mesh changes the mesh that is attacked.
	mesh func(*meshConfig)
}

// verdict is a code and a reason, or a failed handshake.
type verdict struct {
	code      codes.Code
	reason    string
	handshake bool
}

var handshake = verdict{handshake: true}

func TestAttacks(t *testing.T) {
	t.Parallel()
	names := map[string]bool{}
	for _, table := range [][]attack{handshakeAttacks, liveAttacks, metadataAttacks, wireAttacks} {
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
					record := m.audit.find(t, map[string]any{"verdict": "denied", "reason": a.audit})
					t.Logf("audit: %v", record)
				}
			})
		}
	}
}

func (v verdict) check(t *testing.T, err error) {
	t.Helper()
	switch {
	case err == nil:
		t.Fatal("the attack went through")
	case v.handshake:
		if s, ok := status.FromError(err); ok && s.Code() != codes.Unavailable {
			t.Fatalf("got %v, want a failed handshake", err)
		}
		t.Logf("the attacker sees: %v", err)
	default:
		refused(t, err, v.code, v.reason)
	}
}
