package main

import (
	"os"
	"time"
)

const (
	onceRounds = 11
	onceTurn   = 200 * time.Millisecond
)

// postgresVariable names the PostgreSQL server that scripts/postgres has started.
const postgresVariable = "ROLECALL_TEST_POSTGRES"

// measureOnce compares the same handler, which changes a row and reads it back, in a transaction of its own and exactly
// once. BenchmarkRequest of package exactlyonce measures them in turn. Without a PostgreSQL server SQLite alone is measured.
func measureOnce(time.Duration) ([]row, error) {
	databases := []struct{ name, benchmark string }{{"SQLite", "BenchmarkRequestSQLite"}}
	if os.Getenv(postgresVariable) != "" {
		databases = append(databases, struct{ name, benchmark string }{"PostgreSQL", "BenchmarkRequestPostgreSQL"})
	}
	var rows []row
	for _, database := range databases {
		found, err := benchmarked("../interceptors/exactlyonce", database.benchmark, onceTurn, onceRounds, 4)
		if err != nil {
			return nil, err
		}
		for _, c := range []struct{ name, ours string }{
			{"a request exactly once, " + database.name + "; the same handler in its own transaction", "once"},
			{"with a proof, whose nonce is burned in the transaction", "with-proof"},
			{"a repetition, answered from what is stored", "repetition"},
		} {
			rows = append(rows, ratioRow(c.name, comparison{found["bare"], found[c.ours]}, wall, duration, target{}))
		}
	}
	return rows, nil
}
