package users

import (
	"context"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/protobuf/types/known/timestamppb"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
)

// GetSelf tells a user who she is. A user of another issuer has no row here, whatever the name: the answer then has none.
func (s *Service) GetSelf(ctx context.Context, _ *usersv1.GetSelfRequest) (*usersv1.GetSelfResponse, error) {
	caller := interceptors.CallerFrom(ctx)
	u, ok := caller.User()
	if !ok {
		return nil, caller.RequireUserRole("") // the guard has refused such a call before
	}
	answer := &usersv1.GetSelfResponse{
		Roles:           u.Roles(),
		Workload:        caller.ID().String(),
		WorkloadRoles:   caller.Roles(),
		LoggedInThrough: u.LoggedInThrough(),
		TokenExpires:    timestamppb.New(u.TokenExpires()),
	}
	if at := u.AuthTime(); !at.IsZero() {
		answer.AuthTime = timestamppb.New(at)
	}
	if issuer, err := spiffeid.FromString(u.Issuer()); err == nil && issuer.MemberOf(s.domain) {
		row, err := s.users.get(ctx, u.Subject())
		if err != nil {
			return nil, s.status(ctx, "get user "+u.Subject(), err)
		}
		answer.User = row.message()
	}
	return answer, nil
}
