package tokens

import (
	"context"
	"regexp"
	"slices"
	"strconv"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
)

// Bounds of a LoginRequest; users has the same for what it keeps.
const (
	maxPassword = 256
	maxRoles    = 64
)

var roleName = regexp.MustCompile(`^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)+$`)

// Login takes a password and begins a session.
func (s *Service) Login(ctx context.Context, req *tokensv1.LoginRequest) (*tokensv1.LoginResponse, error) {
	if len(req.GetPassword()) > maxPassword {
		return nil, interceptors.InvalidField("password", "must have 256 bytes at most")
	}
	subset, err := checkSubset(req.GetRoleSubset())
	if err != nil {
		return nil, err
	}
	now := s.now()
	subject, err := s.verify(ctx, req.GetUsername(), req.GetPassword())
	if err != nil {
		return nil, err
	}
	first := newRefresh()
	began := session{
		id: newID(), username: subject.GetUsername(), clientID: interceptors.CallerFrom(ctx).ID().String(),
		all: req.GetRoleSubset() == nil, subset: subset, generation: subject.GetGeneration(), authenticated: now,
	}
	access, err := s.mint(ctx, began, subject, now)
	if err != nil {
		return nil, s.status(ctx, "log in", err)
	}
	if began, err = s.tables.add(ctx, began, first, now); err != nil {
		return nil, s.status(ctx, "log in", err)
	}
	s.counts.issued(ctx, "login")
	return &tokensv1.LoginResponse{Tokens: pair(began, access, first)}, nil
}

func pair(session session, access access, next refresh) *tokensv1.TokenPair {
	return &tokensv1.TokenPair{
		AccessToken: access.token, AccessExpires: timestamppb.New(access.expires),
		RefreshToken: next.text(), RefreshExpires: timestamppb.New(session.expires().Truncate(time.Microsecond)),
		Username: session.username, Roles: access.roles,
	}
}

// checkSubset returns the roles of a subset, sorted. Names that nobody holds are no error: they give nothing.
func checkSubset(subset *tokensv1.RoleSubset) ([]string, error) {
	roles := subset.GetRoles()
	if len(roles) > maxRoles {
		return nil, interceptors.InvalidField("role_subset.roles", "must be 64 roles at most")
	}
	for i, role := range roles {
		if !roleName.MatchString(role) || len(role) > 255 {
			return nil, interceptors.InvalidField("role_subset.roles["+strconv.Itoa(i)+"]", "must be the name of a role, such as orders.customer")
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(roles))), nil
}
