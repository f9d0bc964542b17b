package interceptors

import (
	"time"

	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/identity"
)

// snapshot is the guard's state as it concerns one server: the bindings compiled for the roles of its methods.
// Immutable; its address is its version.
type snapshot struct {
	state  *state
	policy *authz.Policy
}

// decide is the one authorization decision: may this peer, now, call this method with the roles of the subset (nil: all
// that it has)? It takes no lock and allocates nothing; what a peer may do is computed once for each peer and snapshot.
func (s *Server) decide(c *connection, m *authz.Method, subset authz.Set) reason {
	if c.Expired() {
		return peerCertificateExpired
	}
	v := s.verdictOn(c)
	switch {
	case v.reason != allowed:
		return v.reason
	case m == nil:
		return methodNotAnnotated
	case m.AnyWorkload && !c.ownDomain:
		return roleRequired
	case !v.held.ContainsAll(m.Need):
		return roleRequired
	case subset != nil && !subset.ContainsAll(m.Need):
		return roleRequired
	}
	return allowed
}

func (s *Server) verdictOn(c *connection) *verdict {
	now := s.snapshot.Load()
	if v := c.verdict.Load(); v != nil && v.snapshot == now {
		return v
	}
	v := judge(c, now, s.guard.now())
	c.verdict.Store(v)
	return v
}

// judge works out what a snapshot means for a peer.
func judge(c *connection, now *snapshot, wall time.Time) *verdict {
	v := &verdict{snapshot: now}
	v.reason, v.detail = standing(c, now.state, wall)
	if v.reason == allowed {
		v.held = now.policy.Held(c.ID)
	}
	return v
}

// standing says whether a peer is trusted and welcome at all, before any role is looked at.
func standing(c *connection, now *state, wall time.Time) (reason, string) {
	deniedCA := func(key identity.Key) bool {
		if now.bindings == nil {
			return false
		}
		_, denied := now.bindings.DeniedCA(c.ID, key)
		return denied
	}
	if len(c.Trusted(now.trust, wall, deniedCA)) == 0 {
		return peerNotTrusted, "no chain of the certificate ends at a root of the bundle without a denied CA in between"
	}
	if now.bindings != nil {
		if why, denied := now.bindings.DeniedPeer(c.ID, c.Leaf); denied {
			return identityDenied, why
		}
	}
	return allowed, ""
}
