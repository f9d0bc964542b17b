package users

import (
	"context"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/store"
)

// GetTokenSubject reads what a token of a user is to carry now.
func (s *Service) GetTokenSubject(ctx context.Context, req *usersv1.GetTokenSubjectRequest) (*usersv1.GetTokenSubjectResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	user, err := s.users.get(ctx, req.GetUsername())
	if err != nil {
		return nil, s.status(ctx, "read the token subject "+req.GetUsername(), err)
	}
	return &usersv1.GetTokenSubjectResponse{Subject: user.subject()}, nil
}

// RaiseTokenGeneration ends all tokens and sessions of a user. A generation above the user's own comes from before the
// database was put back from a copy: what was given out then ends too.
func (s *Service) RaiseTokenGeneration(ctx context.Context, req *usersv1.RaiseTokenGenerationRequest) (*usersv1.RaiseTokenGenerationResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	if g := req.GetGeneration(); g < 0 || g > maxGeneration {
		return nil, interceptors.InvalidField("generation", "must be 0 to 2^53-1")
	}
	user, err := s.users.change(ctx, req.GetUsername(), func(_ *store.Tx, u *user) (ending, error) {
		// SetRoles raises the generation too, but ends no sessions: not by that alone has this been done.
		if u.sessionGeneration > req.GetGeneration() || u.generation == maxGeneration {
			return nothing, nil
		}
		u.generation, u.raised = max(u.generation, req.GetGeneration()), s.now()
		return allSessions, nil
	})
	if err != nil {
		return nil, s.status(ctx, "raise the generation of "+req.GetUsername(), err)
	}
	return &usersv1.RaiseTokenGenerationResponse{Generation: user.generation}, nil
}
