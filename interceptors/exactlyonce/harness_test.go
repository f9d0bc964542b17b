package exactlyonce_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	_ "github.com/jackc/pgx/v5/stdlib" // the driver "pgx"
	_ "modernc.org/sqlite"             // the driver "sqlite"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/internal/leaktest"
	"example.com/rolecall/internal/store/storetest"
)

func TestMain(m *testing.M) {
	if url := os.Getenv(childEnv); url != "" {
		child(url)
		return
	}
	leaktest.Main(m)
}

const (
	orders   = "spiffe://mesh.local/service/orders"
	billing  = "spiffe://mesh.local/service/billing"
	transfer = ledgerv1.LedgerService_Transfer_FullMethodName
	open     = ledgerv1.LedgerService_OpenAccount_FullMethodName
)

// kit is one database and what the tests ask it.
type kit struct {
	url   string
	db    *sql.DB
	now   atomic.Int64 // microseconds that the clock is ahead
	reads *sql.DB      // beside the one connection that writes
	log   lines        // of every replica
}

// lines is a log. Safe for concurrent use.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// has tells whether a line has all of the words.
func (l *lines) has(words ...string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(line, word) }) {
			return true
		}
	}
	return false
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// each runs a test on every kind of database.
func each(t *testing.T, test func(t *testing.T, k *kit)) {
	t.Helper()
	storetest.Each(t, func(t *testing.T, url string) {
		k := newKit(t, url)
		k.createEffects(t)
		test(t, k)
	})
}

func newKit(t testing.TB, url string) *kit {
	t.Helper()
	k := &kit{url: url, db: openDB(url), reads: openDB(url)}
	t.Cleanup(func() { _ = errors.Join(k.db.Close(), k.reads.Close()) })
	return k
}

// createEffects makes the table that handlers write to.
func (k *kit) createEffects(t testing.TB) {
	t.Helper()
	k.exec(t, "CREATE TABLE effects (name TEXT NOT NULL PRIMARY KEY, times BIGINT NOT NULL)")
	k.exec(t, "INSERT INTO effects (name, times) VALUES ('n', 0)")
}

func postgres(url string) bool { return strings.HasPrefix(url, "postgres://") }

// openDB opens a database as an adopter may.
func openDB(url string) *sql.DB {
	driver, source := "pgx", url
	if !postgres(url) {
		driver, source = "sqlite", "file:"+filepath.ToSlash(url)+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"
	}
	db, err := sql.Open(driver, source)
	if err != nil {
		panic(err)
	}
	if driver == "sqlite" {
		db.SetMaxOpenConns(1)
	} else {
		db.SetMaxOpenConns(16)
		db.SetMaxIdleConns(16)
	}
	return db
}

func adopt(url string, db *sql.DB) exactlyonce.DB {
	if postgres(url) {
		return exactlyonce.PostgreSQL(db)
	}
	return exactlyonce.SQLite(db)
}

// start makes the feature, as the guard of a server does. Each call is another replica.
func (k *kit) start(t testing.TB, change func(*exactlyonce.Config), prepare ...func(*exactlyonce.Requests)) *exactlyonce.Requests {
	t.Helper()
	cfg := exactlyonce.Config{DB: adopt(k.url, k.db)}
	if change != nil {
		change(&cfg)
	}
	r := exactlyonce.New(cfg)
	for _, p := range prepare {
		p(r)
	}
	running, err := r.Start(feature.Env{Now: k.clock, Log: slog.New(slog.NewTextHandler(&k.log, nil))})
	if err != nil {
		t.Fatalf("start: %v", err)
	}
	t.Cleanup(func() {
		if err := running.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	methods := []feature.Method{{Full: transfer, ExactlyOnce: true, Proof: true}, {Full: open, ExactlyOnce: true}}
	if err := running.(feature.Serving).Serve(methods); err != nil {
		t.Fatalf("serve: %v", err)
	}
	return r
}

func (k *kit) clock() time.Time { return time.Now().Add(time.Duration(k.now.Load())) }

func (k *kit) pass(d time.Duration) { k.now.Add(int64(d)) }

// pruneAfter lets time pass, and deletes what has expired by then: by a time that an earlier call has written down. The replica does
// nothing in the background any more: it could write down a time from before.
func (k *kit) pruneAfter(t testing.TB, r *exactlyonce.Requests, d time.Duration) {
	t.Helper()
	idle(t, r)
	k.pass(d)
	r.Prune(t.Context())
	k.pass(2 * time.Minute)
	r.Prune(t.Context())
}

func (k *kit) exec(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := k.db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// number reads one number.
func (k *kit) number(t testing.TB, query string, args ...any) (n int) {
	t.Helper()
	if err := k.reads.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func (k *kit) effects(t testing.TB) int {
	t.Helper()
	return k.number(t, "SELECT times FROM effects WHERE name = 'n'")
}

func (k *kit) rows(t testing.TB) int {
	t.Helper()
	return k.number(t, "SELECT COUNT(*) FROM rolecall_requests")
}

func (k *kit) nonces(t testing.TB) int {
	t.Helper()
	return k.number(t, "SELECT COUNT(*) FROM rolecall_nonces")
}

// check compares what there is of effects, stored requests and burned nonces.
func (k *kit) check(t testing.TB, effects, rows, nonces int) {
	t.Helper()
	got := fmt.Sprintf("%d effects, %d requests, %d nonces", k.effects(t), k.rows(t), k.nonces(t))
	if want := fmt.Sprintf("%d effects, %d requests, %d nonces", effects, rows, nonces); got != want {
		t.Errorf("the database has %s, want %s", got, want)
	}
}

// call makes a request; each change makes it another one.
func call(id string, changes ...func(*feature.OnceCall)) *feature.OnceCall {
	c := &feature.OnceCall{Method: transfer, Peer: orders, User: "user:dave", Message: &ledgerv1.TransferRequest{
		FromAccount: "a", ToAccount: "b", Amount: &ledgerv1.Money{Currency: "EUR", MinorUnits: 1}, RequestId: id,
	}}
	for _, change := range changes {
		change(c)
	}
	return c
}

func newID() string { return uuid.NewString() }

// proven gives a request a proof that nobody has used.
func proven(c *feature.OnceCall) {
	c.Signer = c.Peer
	c.Proof = &feature.Proof{
		Signer: spiffeid.RequireFromString(c.Peer), Nonce: base64.RawURLEncoding.EncodeToString([]byte(rand.Text()[:16])),
		Issued: time.Now(), Expires: time.Now().Add(30 * time.Second),
	}
}

// result is what Do returns, with the status of its error.
type result struct {
	Response string
	Verdict  feature.Verdict
	Code     codes.Code
}

func do(ctx context.Context, r *exactlyonce.Requests, c *feature.OnceCall, run func(context.Context) (proto.Message, error)) result {
	response, verdict, _, err := r.Do(ctx, c, run)
	return result{string(response), verdict, status.Code(err)}
}

// bump is the effect of a handler: it counts, and answers something else each time.
func bump(ctx context.Context) (proto.Message, error) {
	_, err := exactlyonce.Tx(ctx).ExecContext(ctx, "UPDATE effects SET times = times + 1 WHERE name = 'n'")
	return &ledgerv1.TransferResponse{Transfer: &ledgerv1.TransferRecord{TransferId: newID()}}, err
}

// thenFail is the effect and then an error.
func thenFail(err error) func(context.Context) (proto.Message, error) {
	return func(ctx context.Context) (proto.Message, error) {
		if _, err := bump(ctx); err != nil {
			return nil, err
		}
		return nil, err
	}
}

func ok(t testing.TB, got result) result {
	t.Helper()
	if got.Verdict != feature.Good || got.Code != codes.OK || got.Response == "" {
		t.Fatalf("got %+v, want a response", got)
	}
	return got
}

// eventually waits until the condition holds.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("after 30 s: not %s", what)
		}
	}
}
