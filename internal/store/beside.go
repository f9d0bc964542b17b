package store

import (
	"database/sql"
	"fmt"
	"strings"
)

// besideConns is how many connections Beside holds at most.
const besideConns = 4

// Beside returns a few connections to the schema of a service that wait for none of its own transactions, for what has tables
// of its own there; nil where the database is an SQLite file, which belongs to one process. It connects when it is first
// used, which is to be after Open. The caller closes it.
func Beside(service, url string) (*sql.DB, error) {
	if !isPostgres(url) {
		return nil, nil
	}
	db, err := postgresPool(url, service, besideConns)
	if err != nil {
		return nil, fmt.Errorf("open database of %s: %w", service, err)
	}
	return db, nil
}

func isPostgres(url string) bool {
	return strings.HasPrefix(url, "postgres://") || strings.HasPrefix(url, "postgresql://")
}
