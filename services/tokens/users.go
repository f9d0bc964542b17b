package tokens

import (
	"context"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/refusal"
)

// usersTimeout bounds a call to users. A login may wait there for its turn to have the password hashed.
const usersTimeout = 10 * time.Second

// verify has users verify a password, and returns what the tokens are to carry. users itself refuses and limits logins; that
// is passed on.
func (s *Service) verify(ctx context.Context, username, password string) (*usersv1.TokenSubject, error) {
	asked, cancel := context.WithTimeout(ctx, usersTimeout)
	defer cancel()
	answer, err := s.users.VerifyPassword(asked, &usersv1.VerifyPasswordRequest{Username: username, Password: password})
	switch refusal.Reason(err) {
	case refusal.LoginRefused:
		// Why, and for which user, is in the record of users.
		interceptors.CallerFrom(ctx).Denied(refusal.LoginRefused, "users has refused the username or the password")
		return nil, refusal.New(codes.Unauthenticated, refusal.LoginRefused, "the username or the password is wrong", 0)
	case refusal.RateLimited:
		return nil, passLimit(ctx, err)
	}
	if err != nil {
		return nil, s.usersFailed(ctx, "verify a password", err)
	}
	return answer.GetSubject(), nil
}

// subject asks users what the tokens of a user are to carry now. NOT_FOUND if there is no such user.
func (s *Service) subject(ctx context.Context, username string) (*usersv1.TokenSubject, error) {
	asked, cancel := context.WithTimeout(ctx, usersTimeout)
	defer cancel()
	answer, err := s.users.GetTokenSubject(asked, &usersv1.GetTokenSubjectRequest{Username: username})
	if status.Code(err) == codes.NotFound {
		return nil, err
	}
	if err != nil {
		return nil, s.usersFailed(ctx, "read a token subject", err)
	}
	return answer.GetSubject(), nil
}

// usersFailed makes the status for the caller of a call to users that failed. What users says of this service, such as a
// role that it lacks, is not the caller's business: its own roles were enough.
func (s *Service) usersFailed(ctx context.Context, doing string, err error) error {
	switch code := status.Code(err); code {
	case codes.Unavailable, codes.DeadlineExceeded, codes.Canceled, codes.Aborted, codes.ResourceExhausted:
		s.log.LogAttrs(ctx, slog.LevelWarn, "no answer from users", slog.String("doing", doing), slog.Any("error", err))
		return status.Error(codes.Unavailable, "users does not answer: try again later")
	default:
		s.log.LogAttrs(ctx, slog.LevelError, "users refuses to answer", slog.String("doing", doing), slog.Any("error", err))
		return status.Errorf(codes.Internal, "users refuses to answer this service (%s)", code)
	}
}
