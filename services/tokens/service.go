// Package tokens is the service that logs users in: it gives out access tokens, which every service of the mesh verifies by
// itself, and refresh tokens, which are good for one use; and it tells every service which access tokens are revoked.
//
// login.go, refresh.go and revoke.go are the calls, rotate.go is the one place that uses a refresh token up. keyring.go has
// the keys that sign access tokens, keyset.go signs their public halves with the own certificate, watch.go streams
// revocations. Who a user is, is the business of the users service: users.go asks it, follow.go and raises.go keep both in
// step. Neither waits for the other to start.
package tokens

import (
	"context"
	"embed"
	"fmt"
	"log/slog"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"

	tokensv1 "example.com/rolecall/gen/tokens/v1"
	usersv1 "example.com/rolecall/gen/users/v1"
	"example.com/rolecall/internal/node"
	"example.com/rolecall/internal/watch"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Service implements tokens.v1. Safe for concurrent use.
type Service struct {
	tokensv1.UnimplementedTokensServiceServer
	id       spiffeid.ID
	config   Config
	tables   tables
	keys     *keyring
	users    usersv1.UsersServiceClient
	counts   *counts
	stopping <-chan struct{}
	log      *slog.Logger
	now      func() time.Time
}

// Setup registers the service on a node that has the peer users.
func Setup(ctx context.Context, n *node.Node) error { return New(Config{})(ctx, n) }

// New returns a Setup with another configuration.
func New(config Config) func(ctx context.Context, n *node.Node) error {
	return func(ctx context.Context, n *node.Node) error {
		config, err := config.withDefaults()
		if err != nil {
			return err
		}
		users, err := n.Dial("users")
		if err != nil {
			return err
		}
		db, err := n.OpenDB(ctx, migrations)
		if err != nil {
			return err
		}
		tables := newTables(db, config)
		s := &Service{
			id: n.ID, config: config, tables: tables, users: usersv1.NewUsersServiceClient(users),
			keys:     &keyring{tables: tables, config: config, svid: n.SVID, log: n.Log, now: config.Now},
			stopping: n.Stopping(), log: n.Log, now: config.Now,
		}
		if s.counts, err = newCounts(n.Meter, config.Now); err != nil {
			return fmt.Errorf("make metrics: %w", err)
		}
		if err := tables.epochs.Begin(ctx); err != nil {
			return fmt.Errorf("begin an epoch: %w", err)
		}
		if err := s.keys.begin(ctx); err != nil {
			return err
		}
		// A certificate that cannot sign is told of now, not to the first who asks for keys.
		if _, err := s.keys.signed(ctx, 0); err != nil {
			return err
		}
		if db.Shared() {
			n.Go(func(ctx context.Context) {
				watch.Poll(ctx, config.Poll, tables.position, tables.changed, n.Log, "revocations and keys")
			})
		}
		n.Go(s.keys.tend)
		n.Go(s.deliverAll)
		n.Go(s.follow)
		n.Go(s.purge)
		tokensv1.RegisterTokensServiceServer(n.Server, s)
		return nil
	}
}

// GetKeys returns the public keys of access tokens.
func (s *Service) GetKeys(ctx context.Context, _ *tokensv1.GetKeysRequest) (*tokensv1.GetKeysResponse, error) {
	keys, err := s.keys.signed(ctx, 0)
	if err != nil {
		return nil, s.status(ctx, "sign the keys", err)
	}
	return &tokensv1.GetKeysResponse{Keys: keys}, nil
}

// purgeInterval is how often what has ended is removed.
const purgeInterval = time.Minute

// purge removes what has ended, until ctx ends.
func (s *Service) purge(ctx context.Context) {
	ticker := time.NewTicker(purgeInterval)
	defer ticker.Stop()
	for {
		if err := s.tables.purge(ctx, s.now()); err != nil && ctx.Err() == nil {
			s.log.LogAttrs(ctx, slog.LevelWarn, "ended sessions cannot be removed; trying again", slog.Any("error", err))
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}
