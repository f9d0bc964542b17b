package authority

import (
	"context"
	"fmt"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	authorityv1 "example.com/rolecall/gen/authority/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/pki"
)

// IssueJwtSvid signs one JWT-SVID, if the caller is entitled to the identity.
func (a *Authority) IssueJwtSvid(ctx context.Context, req *authorityv1.IssueJwtSvidRequest) (*authorityv1.IssueJwtSvidResponse, error) {
	caller := interceptors.CallerFrom(ctx)
	id, err := a.checkJWT(caller, req)
	if err == nil {
		err = a.checkCaller(ctx, caller)
	}
	if err != nil {
		a.counts.jwtRefused.Add(1)
		a.log.WarnContext(ctx, "JWT-SVID refused", "requester", caller.ID(), "error", err)
		return nil, err
	}
	token, expires, err := a.issuers.IssueJWT(id, req.GetAudience())
	if err != nil {
		a.counts.failed.Add(1)
		a.log.ErrorContext(ctx, "JWT-SVID not signed", "requester", caller.ID(), "id", id, "error", err)
		return nil, status.Error(codes.Unavailable, "the authority cannot sign at present; its log says why")
	}
	a.counts.jwtIssued.Add(1)
	a.log.InfoContext(ctx, "JWT-SVID signed", "requester", caller.ID(), "id", id, "audience", req.GetAudience(), "expires", expires)
	return &authorityv1.IssueJwtSvidResponse{Token: token, ExpiresAt: timestamppb.New(expires)}, nil
}

func (a *Authority) checkJWT(caller interceptors.Caller, req *authorityv1.IssueJwtSvidRequest) (spiffeid.ID, error) {
	id, err := spiffeid.FromString(req.GetSpiffeId())
	switch {
	case err != nil:
		return id, interceptors.InvalidField("spiffe_id", err.Error())
	case id.TrustDomain() != a.issuers.TrustDomain() || id.Path() == "":
		return id, interceptors.InvalidField("spiffe_id", fmt.Sprintf("%s is not a workload of the trust domain %s", id, a.issuers.TrustDomain()))
	case len(req.GetAudience()) == 0 || len(req.GetAudience()) > pki.MaxAudiences:
		return id, interceptors.InvalidField("audience", fmt.Sprintf("%d audiences: 1 to %d are accepted", len(req.GetAudience()), pki.MaxAudiences))
	}
	for _, audience := range req.GetAudience() {
		if audience == "" || len(audience) > pki.MaxAudienceSize {
			return id, interceptors.InvalidField("audience", fmt.Sprintf("an audience of %d bytes: 1 to %d are accepted", len(audience), pki.MaxAudienceSize))
		}
	}
	_, err = a.entitle(caller, id, "spiffe_id")
	return id, err
}
