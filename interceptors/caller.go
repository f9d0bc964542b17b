package interceptors

import (
	"context"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	"example.com/rolecall/interceptors/internal/audit"
)

// Caller is who calls, verified. Only this package makes one that is; the zero Caller is nobody and holds nothing.
// Safe for concurrent use, for as long as the call lasts.
type Caller struct{ call *call }

// CallerFrom returns the caller of the RPC that ctx belongs to, or the zero Caller outside of one.
func CallerFrom(ctx context.Context) Caller {
	c, _ := ctx.Value(callKey{}).(*call)
	return Caller{c}
}

// ID returns the SPIFFE ID that the peer's certificate proves; the zero ID for the zero Caller.
func (c Caller) ID() spiffeid.ID {
	if c.call == nil {
		return spiffeid.ID{}
	}
	return c.call.conn.ID
}

// HasRole reports whether the caller holds the role now, and has not given it up for this call. For a request that another
// workload signed, that one must hold it too: neither lends its roles to the other. Before the request of a stream with
// requires_proof was read, nobody is known to have signed it, and no role is held. A role that no service of this server
// defines is not held.
func (c Caller) HasRole(role string) bool {
	if !c.peerHolds(role) {
		return false
	}
	i, _ := c.call.server.table.RoleIndex(role)
	return c.call.signerHolds(i)
}

// peerHolds is HasRole without the signer of the request.
func (c Caller) peerHolds(role string) bool {
	if c.call == nil {
		return false
	}
	i, ok := c.call.server.table.RoleIndex(role)
	if !ok || c.call.conn.Expired() {
		return false
	}
	if c.call.narrowed && !c.call.subset.Has(i) {
		return false
	}
	v := c.call.server.verdictOn(c.call.conn)
	return v.reason == allowed && v.held.Has(i)
}

// Signer returns the workload whose key signed the request, verified: the caller, or one whose request the caller passes on
// unchanged. It is false for a method that asks for no proof, in a stream before its request was read, and for the zero Caller.
func (c Caller) Signer() (spiffeid.ID, bool) {
	if c.call == nil {
		return spiffeid.ID{}, false
	}
	p := c.call.proof.Load()
	if p == nil {
		return spiffeid.ID{}, false
	}
	return p.Signer, true
}

// Require returns nil if HasRole(role), else the refusal ROLE_REQUIRED (PROOF_REQUIRED before the request of a stream was read
// that must come with a proof), counted and recorded like the guard's own: for a handler that needs more than its method's
// annotation can say, such as a role for what is not the caller's own.
func (c Caller) Require(role string) error {
	if c.HasRole(role) {
		return nil
	}
	if c.call == nil {
		return roleRequired.err(map[string]string{"role": role})
	}
	if r := c.call.decide(); r != allowed {
		return c.call.refuse(r, "handler") // what the call itself rests on is gone
	}
	if c.call.unproven() {
		return c.call.refuse(proofRequired, "handler", role)
	}
	if c.peerHolds(role) {
		return c.call.refuse(signerRoleRequired, "handler", role)
	}
	return c.call.refuse(roleRequired, "handler", role)
}

// Denied records that a handler refuses the call for a reason of its own, which the guard cannot know: a record of the event
// "handler" with everything that is known of the call. Reason and detail are for operators and are not sent to the caller;
// nothing secret belongs in them. Both are cut to 512 bytes.
func (c Caller) Denied(reason, detail string) {
	if c.call == nil {
		return
	}
	record := c.call.record("handler", audit.Denied)
	record.Reason, record.Detail = cut(reason, 512), cut(detail, 512)
	c.call.server.guard.audit.Write(record)
}

// Roles returns the roles for which HasRole is true, sorted by name.
func (c Caller) Roles() []string {
	if c.call == nil {
		return nil
	}
	var held []string
	for _, role := range c.call.server.table.RoleNames() {
		if c.HasRole(role) {
			held = append(held, role)
		}
	}
	return held
}
