package store

import (
	"database/sql"
	"errors"
	"fmt"
	"hash/crc32"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	_ "modernc.org/sqlite" // the driver "sqlite"
)

// sqliteReaders is how many connections read beside the one that writes.
const sqliteReaders = 4

// openSQLite opens a file with one connection that writes and a few that read. SQLite has room for one writer: with a
// single connection the queue is database/sql's own, in the order of arrival and ending with the caller's deadline, in
// place of SQLite's polling. The log is written ahead (WAL), so readers never wait for the writer.
func openSQLite(path, service string) (*DB, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := makePrivate(path); err != nil {
		return nil, err
	}
	write, err := sql.Open("sqlite", sqliteURI(path, "synchronous(FULL)"))
	if err != nil {
		return nil, err
	}
	write.SetMaxOpenConns(1)
	write.SetMaxIdleConns(1)
	if err := claim(write, service); err != nil { // also makes it a WAL database before a reader that may not write sees it
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), write.Close())
	}
	read, err := sql.Open("sqlite", sqliteURI(path, "query_only(1)"))
	if err != nil {
		return nil, errors.Join(err, write.Close())
	}
	read.SetMaxOpenConns(sqliteReaders)
	read.SetMaxIdleConns(sqliteReaders)
	return &DB{read: read, write: write}, nil
}

// claim marks the file as that of the service, by the application ID in its header, and refuses that of another service:
// their migrations have the same numbers, so each would take the other's tables for its own.
func claim(db *sql.DB, service string) error {
	want := int32(crc32.ChecksumIEEE([]byte("rolecall " + service)))
	var got int32
	if err := db.QueryRow("PRAGMA application_id").Scan(&got); err != nil {
		return err
	}
	switch got {
	case want:
		return nil
	case 0:
		_, err := db.Exec(fmt.Sprintf("PRAGMA application_id = %d", want))
		return err
	default:
		return fmt.Errorf("the file is not the database of %s: give each service a file of its own", service)
	}
}

// makePrivate makes the file readable by its owner alone before SQLite would make it with the umask. The files that
// SQLite puts beside it take over its mode.
func makePrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// sqliteURI names the file as https://www.sqlite.org/uri.html says, so that a path may hold ? and %. Every transaction of
// the connection is BEGIN IMMEDIATE: one that reads first and writes later could not be granted the write.
func sqliteURI(path string, pragmas ...string) string {
	path = filepath.ToSlash(path)
	if !strings.HasPrefix(path, "/") {
		path = "/" + path // C:/x becomes file:///C:/x
	}
	pragmas = append([]string{"busy_timeout(5000)", "journal_mode(WAL)", "foreign_keys(1)"}, pragmas...)
	query := url.Values{"_pragma": pragmas, "_txlock": {"immediate"}}
	return (&url.URL{Scheme: "file", Path: path, RawQuery: query.Encode()}).String()
}
