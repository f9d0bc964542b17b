package interceptors

import (
	"context"
	"fmt"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/audit"
	"example.com/rolecall/interceptors/internal/authz"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/identity"
)

// call is one RPC that was let in: the context that its handler gets, and who calls.
type call struct {
	context.Context
	server   *Server
	conn     *connection
	method   *method
	narrowed bool
	subset   authz.Set // closed; nil unless narrowed
	body     func(any) error
	user     *feature.User // nil: on behalf of nobody
	userHeld authz.Set     // closed
	// proof is what was proven of the request, once it has been; nil for a method that wants none.
	proof atomic.Pointer[proven]
}

type callKey struct{}

// Value makes the call its own context value, which saves a context for each RPC.
func (c *call) Value(key any) any {
	if key == (callKey{}) {
		return c
	}
	return c.Context.Value(key)
}

// String says little, because contexts get printed, and this one holds a token.
func (c *call) String() string { return "call of " + c.method.full }

// admit decides whether an RPC may begin. It is the same for unary calls and streams, and runs before any of the
// request has been read and before any interceptor of the caller's.
func (s *Server) admit(ctx context.Context, m *method) (*call, error) {
	c := &call{Context: ctx, server: s, method: m}
	conn := identity.FromContext(ctx)
	if conn == nil {
		return nil, c.refuse(unauthenticated, "call")
	}
	c.conn = conn.Tag.(*connection)
	if values := metadata.ValueFromIncomingContext(ctx, feature.SubsetKey); values != nil {
		c.narrowed, c.subset = true, s.subset(values)
	}
	if r := c.decide(); r != allowed {
		return nil, c.refuse(r, "call")
	}
	if r, detail := c.admitUser(); r != allowed {
		return nil, c.refuseWith(r, "call", detail)
	}
	return c, nil
}

// admitMessage decides about the message of a request, from the bytes that it came in: again what admit did, since a peer may
// take as long for the body as it likes, and then the proof, which is used up only after everything else held. What takes
// effect once uses it up later, in the transaction of the effect. The detail is for the audit record.
func (c *call) admitMessage(body []byte) (r reason, detail string) {
	if r := c.decide(); r != allowed {
		return r, ""
	}
	if !c.method.rule.Conditions.Proof {
		return allowed, ""
	}
	if r, detail := c.admitProof(body); r != allowed {
		return r, detail
	}
	return c.burnProof()
}

// decide asks everything that may change while the call lasts.
func (c *call) decide() reason {
	if r := c.server.decide(c.conn, c.method.rule, c.subset); r != allowed {
		return r
	}
	if p := c.proof.Load(); p != nil {
		if r, _ := c.signerStanding(p); r != allowed {
			return r
		}
	}
	return c.userStanding()
}

// admitted counts and records that the handler is reached.
func (c *call) admitted() {
	c.method.counts[allowed].Add(1)
	if c.server.guard.options.auditAllowed {
		c.server.guard.audit.Write(c.record("call", audit.Allowed))
	}
}

// refuse counts and records a refusal, has the connection closed where that goes with it, and returns the status. The
// roles are those that were asked for, the method's if none are given.
func (c *call) refuse(r reason, event string, roles ...string) error {
	return c.refuseWith(r, event, "", roles...)
}

// refuseWith is refuse with a detail for the audit record. It may run while the handler does.
func (c *call) refuseWith(r reason, event, detail string, roles ...string) error {
	c.method.counts[r].Add(1)
	record := c.record(event, audit.Denied)
	record.Reason, record.Detail = r.String(), cut(detail, 512)
	info := map[string]string{}
	// A client that is told the method makes the call again for some reasons: see feature.RefusedFor. From a handler it is not.
	if c.method.rule != nil && !(event == "handler" && r.repeated()) {
		info["method"] = c.method.full
	}
	if len(roles) > 0 {
		record.Roles = roles
	}
	switch r {
	case roleRequired:
		c.explainRoles(&record, info)
	case signerDenied, signerRoleRequired:
		c.explainSigner(r, &record, info)
	case userRequired:
		if login := c.loginMethod(); login != "" {
			info["login_method"] = login
		}
	case userRoleRequired:
		if len(roles) == 0 {
			roles = c.method.rule.Conditions.UserRoles
		}
		record.Roles, record.Missing = roles, c.missingUserRoles(roles)
		info["role"] = strings.Join(record.Missing, ",")
	}
	if c.conn != nil {
		if v := c.conn.verdict.Load(); v != nil && v.reason == r {
			record.Detail = v.detail
		}
		if r.closes() {
			c.conn.CloseAfter(closeDelay)
		}
	}
	c.server.guard.audit.Write(record)
	feature.SetPushback(c.Context, refusals[r].Wait)
	return r.err(info)
}

// explainRoles says which roles are missing: to the caller their names, which the proto file says too, and no more.
func (c *call) explainRoles(record *audit.Record, info map[string]string) {
	if len(record.Roles) == 0 {
		record.Detail = "any_workload is for workloads of the own trust domain"
		return
	}
	held, narrowedAway := c.server.verdictOn(c.conn).held, true
	for _, role := range record.Roles {
		i, ok := c.server.table.RoleIndex(role)
		has := ok && held.Has(i)
		if !has || c.narrowed && !c.subset.Has(i) {
			record.Missing = append(record.Missing, role)
			narrowedAway = narrowedAway && has
		}
	}
	if len(record.Missing) > 0 {
		info["role"] = strings.Join(record.Missing, ",")
		if narrowedAway {
			info["narrowed"] = "true"
		}
	}
}

func (c *call) record(event, verdict string) audit.Record {
	r := audit.Record{Event: event, Verdict: verdict, Method: c.method.full, Narrowed: c.narrowed}
	if c.method.rule == nil {
		if full, ok := grpc.Method(c.Context); ok {
			r.Method = cut(full, 256)
		}
	} else {
		r.Roles = c.method.rule.Roles
	}
	if c.conn != nil {
		r.Workload, r.Serial, r.Peer = c.conn.ID.String(), c.conn.Serial, c.conn.RemoteAddr()
	}
	if c.user != nil {
		r.User = c.user.Subject
		if !c.user.Own {
			r.UserIssuer = c.user.Issuer // another's alice is not ours
		}
	}
	if p := c.proof.Load(); p != nil {
		r.Signer = p.Signer.String()
	}
	if now := c.server.guard.state.Load(); now.bindings != nil {
		r.Policy = now.bindings.Version
	}
	r.Request, r.Trace = correlation(c.Context)
	return r
}

// limit cuts the time of a unary call to what a connection is given to finish after it was drained: what takes longer
// would be cut off without a status. The caller of limit calls the result.
func (c *call) limit() context.CancelFunc {
	grace := c.server.grace
	if deadline, ok := c.Deadline(); ok && time.Until(deadline) <= grace {
		return func() {}
	}
	ctx, cancel := context.WithTimeout(c.Context, grace)
	c.Context = ctx
	return cancel
}

// recovered turns a panic of a handler, of an interceptor inside the guard or of a check into a bare INTERNAL. The
// stack goes to the log, since it may hold anything.
func (s *Server) recovered(m *method, err *error) {
	if p := recover(); p != nil {
		m.counts[panicked].Add(1)
		s.guard.audit.Write(audit.Record{Event: "call", Verdict: audit.Denied, Reason: panicked.String(), Method: m.full, Detail: "panic; its stack is in the log"})
		s.guard.log.Error("panic while serving a call", "method", m.full, "panic", cut(panicText(p), 1024), "stack", string(debug.Stack()))
		*err = panicked.err(nil)
	}
}

// panicText prints what a handler panicked with, but no message: its fields may be passwords and tokens.
func panicText(p any) string {
	if m, ok := p.(proto.Message); ok {
		return "a message of type " + string(m.ProtoReflect().Descriptor().FullName())
	}
	return fmt.Sprint(p)
}

func cut(s string, n int) string { return s[:min(len(s), n)] }
