package node

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"example.com/rolecall/interceptors"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/proof"
	"example.com/rolecall/interceptors/usertoken"
	"example.com/rolecall/internal/store"
)

// features returns what the guard enforces beside roles.
func (n *Node) features() ([]interceptors.Option, error) {
	var options []interceptors.Option
	if n.config.Once != nil {
		once := *n.config.Once
		once.DB = opened{n}
		n.requests = exactlyonce.New(once)
		options = append(options, interceptors.With(n.requests))
	}
	if tokens := n.config.Tokens; tokens != nil || len(n.config.Issuers) > 0 {
		accepted := usertoken.Config{Others: n.config.Issuers}
		if tokens != nil {
			accepted.Target, accepted.Server = tokens.Target, tokens.ID
		}
		options = append(options, interceptors.With(usertoken.New(accepted)))
	}
	if n.config.Keys != nil {
		proofs, err := n.proofs(*n.config.Keys)
		if err != nil {
			return nil, err
		}
		options = append(options, interceptors.With(proof.New(proofs)))
	}
	return options, nil
}

// proofs says how requests are signed, and where those are remembered that were used: in a shared database, which other
// replicas ask too, else in memory with a file beside the service's own.
func (n *Node) proofs(keys Peer) (proof.Config, error) {
	config := proof.Config{Target: keys.Target, Server: keys.ID}
	pool, err := store.Beside(n.config.Name, n.config.Database)
	if err != nil {
		return config, err
	}
	if pool != nil {
		n.closers = append(n.closers, pool.Close)
		config.Window = proof.PostgreSQLWindow(pool)
		return config, nil
	}
	if n.config.Dir != "" {
		if err := os.MkdirAll(n.config.Dir, 0o700); err != nil {
			return config, fmt.Errorf("folder for the service's files: %w", err)
		}
	}
	config.MarkFile = filepath.Join(n.config.Dir, n.config.Name+".proofs")
	return config, nil
}

// opened is the database of a node, which is opened after the guard was made.
type opened struct{ node *Node }

var errNotOpen = errors.New("the service has opened no database")

// Write implements exactlyonce.DB.
func (o opened) Write(ctx context.Context, f func(ctx context.Context, tx *sql.Tx) error) error {
	db := o.node.database()
	if db == nil {
		return errNotOpen
	}
	return db.ExactlyOnce().Write(ctx, f)
}

// Dialect implements exactlyonce.DB.
func (o opened) Dialect() exactlyonce.Dialect { return o.node.database().ExactlyOnce().Dialect() }
