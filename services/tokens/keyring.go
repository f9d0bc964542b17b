package tokens

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/spiffe/go-spiffe/v2/svid/x509svid"

	"example.com/rolecall/internal/store"
)

const (
	// keyTick is how often keys are looked after.
	keyTick = time.Second
	// keyProlong is how often the end of the own key is put off while it signs.
	keyProlong = time.Minute
	// keyReserve is how much longer than a token lives a key lasts that is not prolonged any more: an own key that could
	// not be prolonged for so long signs nothing.
	keyReserve = 5 * time.Minute
	// maxKeys is how many keys there are at most, of all replicas and of processes that ended lately. Verifiers take 64.
	maxKeys = 32
)

var errNoKey = errors.New("no key to sign with: it could not be published for too long")

// keyring holds the private keys of this process, in memory alone, and publishes their public halves in the database,
// where other replicas find them. Safe for concurrent use.
type keyring struct {
	tables tables
	config Config
	svid   func() (*x509svid.SVID, error)
	log    *slog.Logger
	now    func() time.Time

	rotating sync.Mutex // held by rotate

	mu      sync.Mutex
	signing *ownKey // the key that signs
	coming  *ownKey // published, and going to sign when verifiers know it

	setMu sync.Mutex // held while the database is read, which signing does not wait for
	set   keySet
}

// ownKey is a key of this process.
type ownKey struct {
	signer
	made, prolonged time.Time
}

// begin makes the first key. Nobody can know it before it signs; verifiers fetch a key that they do not know.
func (k *keyring) begin(ctx context.Context) (err error) {
	k.signing, err = k.publish(ctx, k.now())
	return err
}

// tend looks after the keys until ctx ends.
func (k *keyring) tend(ctx context.Context) {
	ticker := time.NewTicker(keyTick)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
		if err := k.rotate(ctx, k.now()); err != nil && ctx.Err() == nil {
			k.log.LogAttrs(ctx, slog.LevelError, "signing keys cannot be looked after; trying again", slog.Any("error", err))
		}
		// Also for what changes without a word: the own certificate, and keys that end.
		before := k.last()
		if now, err := k.signed(ctx, 0); err == nil && now != before {
			k.tables.changed.Ring()
		}
	}
}

// rotate makes the next key when it is time, has it sign once verifiers have had the time to learn of it, and prolongs what
// is in use.
func (k *keyring) rotate(ctx context.Context, now time.Time) (err error) {
	k.rotating.Lock()
	defer k.rotating.Unlock()
	k.mu.Lock()
	signing, coming := k.signing, k.coming
	k.mu.Unlock()
	if coming == nil && !now.Before(signing.made.Add(k.config.KeyLife-k.config.KeyOverlap)) {
		if coming, err = k.publish(ctx, now); err != nil {
			return err
		}
		k.log.LogAttrs(ctx, slog.LevelInfo, "the next signing key is published", slog.String("kid", coming.kid))
	}
	if coming != nil && !now.Before(coming.made.Add(k.config.KeyOverlap)) {
		signing, coming = coming, nil
		k.log.LogAttrs(ctx, slog.LevelInfo, "another key signs", slog.String("kid", signing.kid))
	}
	k.mu.Lock()
	k.signing, k.coming = signing, coming
	k.mu.Unlock()
	for _, key := range []*ownKey{signing, coming} {
		if key != nil && now.Sub(key.prolonged) >= keyProlong {
			if err := k.store(ctx, key, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// publish makes a key and stores its public half.
func (k *keyring) publish(ctx context.Context, now time.Time) (*ownKey, error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a signing key: %w", err)
	}
	s, err := newSigner(private)
	if err != nil {
		return nil, err
	}
	key := &ownKey{signer: s, made: now}
	return key, k.store(ctx, key, now)
}

// store publishes a key, or prolongs one that is published.
func (k *keyring) store(ctx context.Context, key *ownKey, now time.Time) error {
	jwk, err := key.jwk()
	if err != nil {
		return fmt.Errorf("describe a signing key: %w", err)
	}
	if err := k.tables.publish(ctx, key.kid, jwk, now.Add(k.config.AccessLife+forgetSlack+keyReserve)); err != nil {
		return fmt.Errorf("publish a signing key: %w", err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	key.prolonged = now
	return nil
}

// sign signs with the key of the hour. After a time when nobody looked after the keys, as when the machine slept, it does so.
func (k *keyring) sign(ctx context.Context, typ string, payload []byte) (string, error) {
	if err := k.wake(ctx, k.now()); err != nil {
		return "", errors.Join(errNoKey, err)
	}
	key := k.present()
	return key.sign(typ, payload)
}

// wake does what tend should have done, if it has not for too long.
func (k *keyring) wake(ctx context.Context, now time.Time) error {
	if now.Sub(k.present().prolonged) <= keyReserve {
		return nil
	}
	return k.rotate(ctx, now)
}

func (k *keyring) present() ownKey {
	k.mu.Lock()
	defer k.mu.Unlock()
	return *k.signing
}

// publish stores a public key, the last maxKeys of which are kept.
func (t tables) publish(ctx context.Context, kid string, jwk json.RawMessage, ends time.Time) error {
	defer t.changed.Ring()
	return t.db.Write(ctx, func(tx *store.Tx) error {
		if _, err := tx.Exec("UPDATE state SET key_version = key_version + 1"); err != nil {
			return err
		}
		if _, err := tx.Exec("INSERT INTO signing_keys (kid, jwk, ends_us) VALUES ($1, $2, $3) ON CONFLICT (kid) DO UPDATE SET ends_us = excluded.ends_us",
			kid, string(jwk), store.Micros(ends)); err != nil {
			return err
		}
		_, err := tx.Exec("DELETE FROM signing_keys WHERE kid NOT IN (SELECT kid FROM signing_keys ORDER BY ends_us DESC LIMIT $1)", maxKeys)
		return err
	})
}

// published returns the public keys that have not ended, as a list that is the same for the same keys.
func (t tables) published(ctx context.Context, now time.Time) ([]json.RawMessage, error) {
	rows, err := t.db.Query(ctx, "SELECT jwk FROM signing_keys WHERE ends_us > $1 ORDER BY kid", store.Micros(now))
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	keys := []json.RawMessage{}
	for rows.Next() {
		var jwk string
		if err := rows.Scan(&jwk); err != nil {
			return nil, err
		}
		keys = append(keys, json.RawMessage(jwk))
	}
	return keys, rows.Err()
}
