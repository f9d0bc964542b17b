// Package keys is the service that tells which keys workloads sign with.
//
// It is a directory and no authority. announced.go takes a key from the certificate that the caller has shown on the
// connection of the call, so nobody announces for another; whoever asks for a key verifies its chain as that of a peer.
// store.go keeps keys until their certificates expire, so that a proof made just before a rotation still verifies. watch.go
// streams announcements, tokenkeys.go hands on the keys of the tokens service.
package keys

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	keysv1 "example.com/rolecall/gen/keys/v1"
	tokensv1 "example.com/rolecall/gen/tokens/v1"
	"example.com/rolecall/interceptors"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/refusal"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/watch"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Service implements keys.v1. Safe for concurrent use.
type Service struct {
	keysv1.UnimplementedKeysServiceServer
	directory directory
	tokenKeys *tokenKeys // nil: there is no tokens service
	watchers  *watchers
	config    Config
	stopping  <-chan struct{}
	log       *slog.Logger
}

// Setup registers the service on a node. With the peer tokens it also hands on the keys of that.
func Setup(ctx context.Context, n *node.Node) error { return New(Config{})(ctx, n) }

// New returns a Setup with another configuration.
func New(config Config) func(ctx context.Context, n *node.Node) error {
	return func(ctx context.Context, n *node.Node) error {
		config, err := config.withDefaults()
		if err != nil {
			return err
		}
		db, err := n.OpenDB(ctx, migrations)
		if err != nil {
			return err
		}
		s := &Service{
			directory: newDirectory(db, config), watchers: newWatchers(config.Watchers), config: config, stopping: n.Stopping(), log: n.Log,
		}
		if err := s.directory.epochs.Begin(ctx); err != nil {
			return fmt.Errorf("begin an epoch: %w", err)
		}
		if err := s.directory.prune(ctx); err != nil {
			return fmt.Errorf("remove expired keys: %w", err)
		}
		if n.Knows("tokens") {
			tokens, err := n.Dial("tokens")
			if err != nil {
				return err
			}
			s.tokenKeys = newTokenKeys(tokensv1.NewTokensServiceClient(tokens), config.Now)
			n.Go(func(ctx context.Context) { s.tokenKeys.follow(ctx, n.Log) })
		}
		if db.Shared() {
			n.Go(func(ctx context.Context) {
				watch.Poll(ctx, config.Poll, s.directory.position, s.directory.changed, n.Log, "announcements")
			})
		}
		n.Go(s.prune)
		keysv1.RegisterKeysServiceServer(n.Server, s)
		return nil
	}
}

// Announce records the certificate chain of the connection that the call came over.
func (s *Service) Announce(ctx context.Context, _ *keysv1.AnnounceRequest) (*keysv1.AnnounceResponse, error) {
	k, err := shown(ctx, interceptors.CallerFrom(ctx).ID())
	if err != nil {
		return nil, err
	}
	if k, err = s.directory.announce(ctx, k); err != nil {
		return nil, s.status(ctx, "announce a key", err)
	}
	return &keysv1.AnnounceResponse{Kid: k.kid, ExpireTime: timestamppb.New(k.expires)}, nil
}

// thumbprint is what a kid looks like: SHA-256 in base64url.
var thumbprint = regexp.MustCompile(`^[A-Za-z0-9_-]{43}$`)

// GetKeys returns the keys of a workload that have not expired, newest first, or the one of a thumbprint.
func (s *Service) GetKeys(ctx context.Context, req *keysv1.GetKeysRequest) (*keysv1.GetKeysResponse, error) {
	id, err := spiffeid.FromString(req.GetSpiffeId())
	if err != nil || len(req.GetSpiffeId()) > maxID {
		return nil, interceptors.InvalidField("spiffe_id", "must be a SPIFFE ID of at most 2048 bytes: spiffe://mesh.local/service/orders")
	}
	if kid := req.GetKid(); kid != "" && !thumbprint.MatchString(kid) {
		return nil, interceptors.InvalidField("kid", "must be an RFC 7638 thumbprint, which has 43 letters, or empty for all keys")
	}
	found, err := s.directory.find(ctx, id.String(), req.GetKid())
	if err != nil {
		return nil, s.status(ctx, "get keys of "+id.String(), err)
	}
	if len(found) == 0 {
		return nil, status.Error(codes.NotFound, "the workload has announced no such key, or it has expired")
	}
	answer := &keysv1.GetKeysResponse{}
	set := jose.JSONWebKeySet{}
	for _, k := range found {
		answer.Keys = append(answer.Keys, k.message())
		described, err := k.jwk()
		if err != nil {
			return nil, s.status(ctx, "describe key "+k.kid+" of "+k.id, err)
		}
		set.Keys = append(set.Keys, described)
	}
	if answer.Jwks, err = encode(set); err != nil {
		return nil, s.status(ctx, "encode keys of "+id.String(), err)
	}
	return answer, nil
}

// GetTokenKeys returns what the tokens service has signed.
func (s *Service) GetTokenKeys(ctx context.Context, _ *keysv1.GetTokenKeysRequest) (*keysv1.GetTokenKeysResponse, error) {
	if s.tokenKeys == nil {
		return nil, status.Error(codes.FailedPrecondition, "the key server was told of no tokens service: start it with --peer tokens=TARGET,SPIFFE-ID")
	}
	keys, err := s.tokenKeys.get(ctx)
	if err != nil {
		s.log.LogAttrs(ctx, slog.LevelWarn, "there are no keys of tokens to hand on", slog.Any("error", err))
		return nil, status.Error(codes.Unavailable, "tokens does not answer: try again later")
	}
	return &keysv1.GetTokenKeysResponse{Keys: keys}, nil
}

// pruneInterval is how often expired keys are removed.
const pruneInterval = time.Minute

// prune removes expired keys, until ctx ends. Nobody is given one that is still there.
func (s *Service) prune(ctx context.Context) {
	ticker := time.NewTicker(pruneInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := s.directory.prune(ctx); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "expired keys cannot be removed; trying again", slog.Any("error", err))
		}
	}
}

// status turns what the directory answered into what the caller is told.
func (s *Service) status(ctx context.Context, doing string, err error) error {
	if errors.Is(err, errCrowded) {
		s.log.LogAttrs(ctx, slog.LevelError, "the directory is full: workloads that are new cannot announce their keys", slog.Int("identities", s.config.Identities))
		return refusal.Limited(ctx, "the directory holds keys of as many workloads as it takes: it takes new ones when others have expired", pruneInterval)
	}
	return store.Status(ctx, s.log, doing, err)
}
