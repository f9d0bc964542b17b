// Package users is the service that knows the people on whose behalf calls are made.
//
// It keeps one row for each person and never deletes one. Passwords and tokens are not its business.
package users

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/page"
	"example.com/rolecall/internal/store"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Service implements users.v1. Safe for concurrent use.
type Service struct {
	usersv1.UnimplementedUsersServiceServer
	users users
	log   *slog.Logger
	now   func() time.Time
}

// Setup registers the service on a node.
func Setup(ctx context.Context, n *node.Node) error {
	db, err := n.OpenDB(ctx, migrations)
	if err != nil {
		return err
	}
	usersv1.RegisterUsersServiceServer(n.Server, &Service{users: users{db}, log: n.Log, now: time.Now})
	return nil
}

// Create adds a user.
func (s *Service) Create(ctx context.Context, req *usersv1.CreateRequest) (*usersv1.CreateResponse, error) {
	user, err := newUser(req.GetUser(), s.now())
	if err != nil {
		return nil, err
	}
	if err := s.users.add(ctx, user); err != nil {
		return nil, s.status(ctx, "create user "+user.username, err)
	}
	return &usersv1.CreateResponse{User: user.message()}, nil
}

// Get reads one user.
func (s *Service) Get(ctx context.Context, req *usersv1.GetRequest) (*usersv1.GetResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	user, err := s.users.get(ctx, req.GetUsername())
	if err != nil {
		return nil, s.status(ctx, "get user "+req.GetUsername(), err)
	}
	return &usersv1.GetResponse{User: user.message()}, nil
}

// List lists users by username.
func (s *Service) List(ctx context.Context, req *usersv1.ListRequest) (*usersv1.ListResponse, error) {
	const question = "users.List"
	size, after, err := page.Read(question, req.GetPageSize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	if after != "" && !username.MatchString(after) {
		return nil, page.Foreign()
	}
	found, err := s.users.list(ctx, after, size+1)
	if err != nil {
		return nil, s.status(ctx, "list users", err)
	}
	answer := &usersv1.ListResponse{}
	if len(found) > size {
		found = found[:size]
		answer.NextPageToken = page.Token(question, found[size-1].username)
	}
	for _, user := range found {
		answer.Users = append(answer.Users, user.message())
	}
	return answer, nil
}

// Update changes the fields that the mask names.
func (s *Service) Update(ctx context.Context, req *usersv1.UpdateRequest) (*usersv1.UpdateResponse, error) {
	apply, err := changes(req.GetUser(), req.GetUpdateMask())
	if err != nil {
		return nil, err
	}
	user, err := s.users.change(ctx, req.GetUser().GetUsername(), func(u *user) {
		apply(u)
		u.updated = s.now()
	})
	if err != nil {
		return nil, s.status(ctx, "update user "+req.GetUser().GetUsername(), err)
	}
	return &usersv1.UpdateResponse{User: user.message()}, nil
}

// Disable takes a user out of use.
func (s *Service) Disable(ctx context.Context, req *usersv1.DisableRequest) (*usersv1.DisableResponse, error) {
	if err := checkUsername("username", req.GetUsername()); err != nil {
		return nil, err
	}
	user, err := s.users.change(ctx, req.GetUsername(), func(u *user) {
		if !u.disabled {
			u.disabled, u.updated = true, s.now()
		}
	})
	if err != nil {
		return nil, s.status(ctx, "disable user "+req.GetUsername(), err)
	}
	return &usersv1.DisableResponse{User: user.message()}, nil
}

// status turns what the store answered into what the caller is told.
func (s *Service) status(ctx context.Context, doing string, err error) error {
	switch {
	case errors.Is(err, errTaken):
		return status.Error(codes.AlreadyExists, "the username is taken")
	case errors.Is(err, errNotFound):
		return status.Error(codes.NotFound, "there is no such user")
	default:
		return store.Status(ctx, s.log, doing, fmt.Errorf("users: %w", err))
	}
}
