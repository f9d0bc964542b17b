package authority

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// Join turns a ticket into the first certificate of an agent. The ticket is the caller's certificate, which the guard has
// verified: it is of this trust domain, has not expired and is not denied. The same key may come again while the ticket
// lives, for an answer that was lost on the way; another key is refused.
func (a *Authority) Join(ctx context.Context, req *authorityv1.JoinRequest) (*authorityv1.JoinResponse, error) {
	caller := interceptors.CallerFrom(ctx)
	request, err := a.checkJoin(ctx, caller, req.GetCsr())
	if err == nil {
		err = a.checkCaller(ctx, caller)
	}
	if err != nil {
		return nil, a.refused(ctx, caller, agentID(caller.ID()), err)
	}
	ticket := peerCertificate(ctx)
	switch err := a.tickets.redeem(ticket, request.PublicKey); {
	case errors.Is(err, errRedeemed):
		caller.Denied("TICKET_REDEEMED", "presented again with another key: either the ticket or its first use was not the operator's")
		a.log.WarnContext(ctx, "join ticket presented again with another key: either the ticket or its first use was not the operator's",
			"ticket", caller.ID(), "serial", fmt.Sprintf("%x", ticket.SerialNumber))
		return nil, a.refused(ctx, caller, agentID(caller.ID()), interceptors.InvalidField("csr", "the ticket has been redeemed with another key; ask for a new one"))
	case err != nil:
		a.log.ErrorContext(ctx, "join ticket not redeemed", "ticket", caller.ID(), "error", err)
		return nil, status.Error(codes.Unavailable, "the authority cannot redeem tickets at present; its log says why")
	}
	chain, err := a.sign(ctx, caller, request)
	if err != nil {
		return nil, err
	}
	return &authorityv1.JoinResponse{Chain: raw(chain), Bundle: a.current.Load().bundle}, nil
}

// checkJoin lets a ticket ask for the agent of its own name, over a key that is not the ticket's, and for no other name.
func (a *Authority) checkJoin(ctx context.Context, caller interceptors.Caller, csr []byte) (*pki.Request, error) {
	want := agentID(caller.ID())
	ticket := peerCertificate(ctx)
	if want == "" || ticket == nil {
		return nil, interceptors.InvalidField("csr", "the caller's certificate is not a join ticket")
	}
	if !time.Now().Before(ticket.NotAfter) {
		return nil, interceptors.InvalidField("csr", "the ticket has expired; ask for a new one")
	}
	request, err := pki.ReadCSR(csr, a.issuers.TrustDomain())
	switch {
	case err != nil:
		return nil, interceptors.InvalidField("csr", err.Error())
	case request.ID.String() != want:
		return nil, interceptors.InvalidField("csr", fmt.Sprintf("the ticket is for %s, not for %s", want, request.ID))
	case len(request.DNSNames)+len(request.IPAddresses) > 0:
		return nil, interceptors.InvalidField("csr", "an agent has no DNS names and no IP addresses")
	case sameKey(ticket, request.PublicKey):
		return nil, interceptors.InvalidField("csr", "a new key is needed: that of the ticket has been carried about in a file")
	}
	return request, nil
}

// isTicket reports whether an ID is that of a join ticket, or looks like one.
func isTicket(id spiffeid.ID) bool { return strings.HasPrefix(id.Path()+"/", pki.JoinPath) }

// agentID returns the agent that a ticket is for: spiffe://TRUST-DOMAIN/agent/NAME for /join/NAME; "" for all else.
func agentID(ticket spiffeid.ID) string {
	name, ok := strings.CutPrefix(ticket.Path(), pki.JoinPath)
	if !ok || strings.Contains(name, "/") {
		return ""
	}
	id, err := spiffeid.FromPath(ticket.TrustDomain(), pki.AgentPath+name)
	if err != nil {
		return ""
	}
	return id.String()
}
