package keys

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"google.golang.org/protobuf/types/known/timestamppb"

	keysv1 "example.com/rolecall/gen/keys/v1"
	"example.com/rolecall/internal/jwk"
	"example.com/rolecall/internal/store"
	"example.com/rolecall/internal/watch"
)

var (
	errCrowded = errors.New("the directory is full")
	errKnown   = errors.New("the key is known")
	errNone    = errors.New("no such key")
)

// key is a row.
type key struct {
	id, kid  string
	chain    [][]byte // DER, leaf first
	expires  time.Time
	sequence int64
}

func (k key) message() *keysv1.Key {
	return &keysv1.Key{SpiffeId: k.id, Kid: k.kid, Chain: k.chain, ExpireTime: timestamppb.New(k.expires)}
}

// jwk describes the key with its chain (RFC 7517 section 4.7).
func (k key) jwk() (jose.JSONWebKey, error) {
	chain, err := parse(k.chain)
	if err != nil {
		return jose.JSONWebKey{}, err
	}
	described, err := jwk.ES256(chain[0].PublicKey)
	described.Certificates = chain
	return described, err
}

// parse reads a chain that was kept.
func parse(chain [][]byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for _, der := range chain {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate in the database: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("chain without a certificate in the database")
	}
	return certs, nil
}

// encode returns a value as JSON text.
func encode(value any) (string, error) {
	text, err := json.Marshal(value)
	return string(text), err
}

// directory is the database of the service.
type directory struct {
	db      *store.DB
	config  Config
	changed *watch.Bell // rung after each announcement
	epochs  *watch.Epochs
}

func newDirectory(db *store.DB, config Config) directory {
	changed := watch.NewBell()
	return directory{db: db, config: config, changed: changed, epochs: watch.NewEpochs(db, "state", changed)}
}

// position is how far the announcements have come. The epoch is that of the database: numbers of another mean nothing.
type position struct {
	epoch    string
	sequence int64
}

func (d directory) position(ctx context.Context) (p position, err error) {
	err = d.db.QueryRow(ctx, "SELECT epoch, sequence FROM state").Scan(&p.epoch, &p.sequence)
	return p, err
}

const columns = "spiffe_id, kid, chain, expires_us, sequence"

func scan(row interface{ Scan(...any) error }) (key, error) {
	var k key
	var chain string
	var expires int64
	err := row.Scan(&k.id, &k.kid, &chain, &expires, &k.sequence)
	if errors.Is(err, sql.ErrNoRows) {
		return key{}, errNone
	}
	if err != nil {
		return key{}, err
	}
	k.expires = store.Time(expires)
	return k, json.Unmarshal([]byte(chain), &k.chain)
}

// announce records a key and returns what is recorded then. One that is known is no news, unless its certificate was replaced
// by one that lasts longer: what a workload can have written here is bounded by what the certificate authority signs for it.
func (d directory) announce(ctx context.Context, k key) (key, error) {
	known, err := scan(d.db.QueryRow(ctx, "SELECT "+columns+" FROM announced WHERE spiffe_id = $1 AND kid = $2", k.id, k.kid))
	if err == nil && !replaces(k, known) {
		return known, nil
	}
	if err != nil && !errors.Is(err, errNone) {
		return key{}, err
	}
	err = d.db.Write(ctx, func(tx *store.Tx) error {
		known, err = d.add(tx, k)
		return err
	})
	if errors.Is(err, errKnown) {
		return known, nil
	}
	d.changed.Ring() // also after an error: it may have been committed all the same
	return k, err
}

// replaces tells whether a key is recorded in place of the one of the same name.
func replaces(k, known key) bool {
	return k.expires.After(known.expires)
}

// add records a key. errKnown, with what is known, undoes it.
func (d directory) add(tx *store.Tx, k key) (key, error) {
	// First, because it locks the state: nobody else adds between the questions and the answer.
	var identities int
	if err := tx.QueryRow("UPDATE state SET sequence = sequence + 1 RETURNING sequence, identities").Scan(&k.sequence, &identities); err != nil {
		return key{}, err
	}
	known, err := scan(tx.QueryRow("SELECT "+columns+" FROM announced WHERE spiffe_id = $1 AND kid = $2", k.id, k.kid))
	if err == nil && !replaces(k, known) {
		return known, errKnown
	}
	if err != nil && !errors.Is(err, errNone) {
		return key{}, err
	}
	var others int
	if err := tx.QueryRow("SELECT COUNT(*) FROM announced WHERE spiffe_id = $1", k.id).Scan(&others); err != nil {
		return key{}, err
	}
	if others == 0 {
		if identities >= d.config.Identities {
			return key{}, errCrowded
		}
		if _, err := tx.Exec("UPDATE state SET identities = identities + 1"); err != nil {
			return key{}, err
		}
	}
	chain, err := encode(k.chain)
	if err != nil {
		return key{}, err
	}
	if _, err := tx.Exec("INSERT INTO announced ("+columns+") VALUES ($1, $2, $3, $4, $5) ON CONFLICT (spiffe_id, kid)"+
		" DO UPDATE SET chain = excluded.chain, expires_us = excluded.expires_us, sequence = excluded.sequence",
		k.id, k.kid, chain, store.Micros(k.expires), k.sequence); err != nil {
		return key{}, err
	}
	_, err = tx.Exec(makeRoom, k.id, k.sequence, d.config.PerIdentity, maxAnswer)
	return k, err
}

// maxAnswer bounds an answer with all keys of a workload, in bytes: gRPC's clients take 4 MiB.
const maxAnswer = 7 << 19

// makeRoom removes keys of a workload that has too many, or too many bytes of them: those that end first. The one that was just
// announced stays. A certificate is in an answer twice, once in base64, as it is in the column.
const makeRoom = `DELETE FROM announced WHERE spiffe_id = $1 AND sequence IN (SELECT sequence FROM (
	SELECT sequence, COUNT(*) OVER later AS number, SUM(LENGTH(chain) * 7 / 4 + LENGTH(spiffe_id) + 450) OVER later AS size
	FROM announced WHERE spiffe_id = $1
	WINDOW later AS (ORDER BY CASE WHEN sequence = $2 THEN 0 ELSE 1 END, expires_us DESC, sequence DESC)
) AS counted WHERE number > $3 OR size > $4)`

// find returns the keys of a workload that have not expired, newest first; with a kid, that one.
func (d directory) find(ctx context.Context, id, kid string) ([]key, error) {
	return d.query(ctx, "SELECT "+columns+" FROM announced WHERE spiffe_id = $1 AND ($2 = '' OR kid = $2) AND expires_us > $3 ORDER BY sequence DESC",
		id, kid, store.Micros(d.config.Now()))
}

// announcedAfter returns at most limit keys that were announced after a sequence number and have not expired, in their order.
func (d directory) announcedAfter(ctx context.Context, sequence int64, limit int) ([]key, error) {
	return d.query(ctx, "SELECT "+columns+" FROM announced WHERE sequence > $1 AND expires_us > $2 ORDER BY sequence LIMIT $3",
		sequence, store.Micros(d.config.Now()), limit)
}

func (d directory) query(ctx context.Context, query string, args ...any) ([]key, error) {
	rows, err := d.db.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	var found []key
	for rows.Next() {
		k, err := scan(rows)
		if err != nil {
			return nil, err
		}
		found = append(found, k)
	}
	return found, rows.Err()
}

// pruneBatch is how many rows one transaction of a prune removes at most: it holds up nobody for long.
const pruneBatch = 1000

// expiredSlack is how much longer than its certificate a row is kept: clocks of replicas differ.
const expiredSlack = time.Minute

// prune removes expired keys.
func (d directory) prune(ctx context.Context) error {
	before := store.Micros(d.config.Now().Add(-expiredSlack))
	for removed := int64(pruneBatch); removed == pruneBatch; {
		err := d.db.Write(ctx, func(tx *store.Tx) (err error) {
			// Locked first, as in add: the count below is then that of what is there.
			if _, err := tx.Exec("UPDATE state SET identities = identities"); err != nil {
				return err
			}
			removed, err = tx.Exec("DELETE FROM announced WHERE sequence IN (SELECT sequence FROM announced WHERE expires_us < $1 LIMIT $2)", before, pruneBatch)
			if err != nil || removed == 0 {
				return err
			}
			_, err = tx.Exec("UPDATE state SET identities = (SELECT COUNT(DISTINCT spiffe_id) FROM announced)")
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
