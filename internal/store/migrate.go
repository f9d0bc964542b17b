package store

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/pressly/goose/v3"
)

// migrate applies the migrations that the database has not seen, one process at a time.
func (db *DB) migrate(ctx context.Context, migrations fs.FS) error {
	if db.postgres {
		return alone(ctx, db.write, func() error { return db.apply(ctx, goose.DialectPostgres, migrations) })
	}
	return db.apply(ctx, goose.DialectSQLite3, migrations)
}

// apply refuses a database that is newer than the program, which would write what the newer one does not expect.
func (db *DB) apply(ctx context.Context, dialect goose.Dialect, migrations fs.FS) error {
	provider, err := goose.NewProvider(dialect, db.write, migrations, goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return err
	}
	current, err := provider.GetDBVersion(ctx)
	if err != nil {
		return err
	}
	var newest int64
	for _, source := range provider.ListSources() {
		newest = max(newest, source.Version)
	}
	if current > newest {
		return fmt.Errorf("the database is at version %d and this program knows %d: start a newer program", current, newest)
	}
	applied, err := provider.Up(ctx)
	if err != nil {
		return err
	}
	for _, m := range applied {
		db.log.LogAttrs(ctx, slog.LevelInfo, "database migrated", slog.String("migration", m.Source.Path), slog.Duration("took", m.Duration))
	}
	return nil
}
