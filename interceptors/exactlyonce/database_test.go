package exactlyonce_test

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"io"
	"net"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/internal/store/storetest"
)

// unopened is the database of a service that has not opened it yet.
type unopened struct{}

func (unopened) Write(context.Context, func(context.Context, *sql.Tx) error) error {
	return errors.New("the database is not open yet")
}
func (unopened) Dialect() exactlyonce.Dialect { panic("asked before the database was open") }

func TestWithoutADatabaseRequestsAreUnavailable(t *testing.T) {
	t.Parallel()
	r := exactlyonce.New(exactlyonce.Config{DB: unopened{}})
	if got := do(t.Context(), r, call(newID(), proven), bump); got != (result{Verdict: feature.Unavailable}) {
		t.Errorf("got %+v", got)
	}
	if _, err := r.Find(t.Context(), keyOf(call(newID()))); status.Code(err) != codes.Unavailable || strings.Contains(err.Error(), "open") {
		t.Errorf("find: got %v", err)
	}
	err := r.Serve([]feature.Method{{Full: transfer, ExactlyOnce: true}})
	if err == nil || !strings.Contains(err.Error(), "not open yet") {
		t.Errorf("serve: got %v", err)
	}
}

func TestADatabaseThatIsDownIsUnavailable(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		own := openDB(k.url)
		down := exactlyonce.New(exactlyonce.Config{DB: adopt(k.url, own)})
		if err := own.Close(); err != nil {
			t.Fatal(err)
		}
		id := newID()
		if got := do(t.Context(), down, call(id, proven), bump); got != (result{Verdict: feature.Unavailable}) {
			t.Errorf("got %+v", got)
		}
		ok(t, do(t.Context(), r, call(id, proven), bump))
	})
}

func TestACallerThatHasLeftIsToldSo(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if got := do(ctx, r, call(newID(), proven), bump); got != (result{Code: codes.Canceled}) {
			t.Errorf("got %+v", got)
		}
		k.check(t, 0, 0, 0)
	})
}

// relay stands between a client and PostgreSQL, and can keep the answer to a commit.
type relay struct {
	net.Listener
	server string
	silent atomic.Bool
	cuts   atomic.Bool // the connection that a write of a handler goes over
}

// through returns the URL of the database by way of a relay.
func through(t *testing.T, database string) (string, *relay) {
	t.Helper()
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: lis, server: u.Host}
	go r.run()
	t.Cleanup(func() { _ = lis.Close() })
	u.Host = lis.Addr().String()
	return u.String(), r
}

func (r *relay) run() {
	for {
		conn, err := r.Accept()
		if err != nil {
			return
		}
		go r.pass(conn)
	}
}

func (r *relay) pass(client net.Conn) {
	server, err := net.Dial("tcp", r.server)
	if err != nil {
		_ = client.Close()
		return
	}
	answered := make(chan struct{}) // closed when an answer came that could not be passed on, or no more comes
	go func() {
		defer close(answered)
		_, _ = io.Copy(client, server)
		_ = client.Close()
	}()
	defer server.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		// A simple query: 'Q', a length, and the text (PostgreSQL, Message Formats).
		if r.silent.Load() && bytes.HasPrefix(buf[:n], []byte("Q\x00\x00\x00\x0bcommit")) {
			_ = client.Close() // nobody reads the answer
		}
		if r.cuts.Load() && bytes.Contains(buf[:n], []byte("UPDATE effects")) {
			_ = client.Close()
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
		if r.silent.Load() && bytes.Contains(buf[:n], []byte("commit")) {
			<-answered // the server has committed by then
			return
		}
	}
}

func TestACommitThatIsNotAnsweredIsUnavailableAndTheRetryFindsOut(t *testing.T) {
	t.Parallel()
	direct := newKit(t, storetest.Postgres(t))
	direct.createEffects(t)
	by, relay := through(t, direct.url)
	k := newKit(t, by)
	r, id := k.start(t, nil), newID()
	relay.silent.Store(true)
	_, verdict, _, err := r.Do(t.Context(), call(id, proven), bump)
	if verdict != feature.Good || status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "same request_id") {
		t.Errorf("got %v, %v", verdict, err)
	}
	relay.silent.Store(false)
	eventually(t, "committed", func() bool { return direct.effects(t) == 1 })
	ok(t, do(t.Context(), r, call(id, proven), bump))
	direct.check(t, 1, 1, 2)
}

// faulty is a database whose commits are made and not answered.
type faulty struct {
	exactlyonce.DB
	silent atomic.Bool
}

func (f *faulty) Write(ctx context.Context, run func(context.Context, *sql.Tx) error) error {
	err := f.DB.Write(ctx, run)
	if err == nil && f.silent.Load() {
		return errors.Join(exactlyonce.ErrOutcomeUnknown, errors.New("connection reset"))
	}
	return err
}

func TestADatabaseThatGoesAwayUnderTheHandlerIsUnavailable(t *testing.T) {
	t.Parallel()
	direct := newKit(t, storetest.Postgres(t))
	direct.createEffects(t)
	by, relay := through(t, direct.url)
	k := newKit(t, by)
	r := k.start(t, nil)
	saga := k.start(t, nil, never(t))
	internal := func(ctx context.Context) (proto.Message, error) {
		if _, err := bump(ctx); err != nil {
			return nil, status.Error(codes.Internal, "internal error")
		}
		return nil, nil
	}
	for name, one := range map[string]func() result{
		"who passes the error on": func() result { return do(t.Context(), r, call(newID(), proven), bump) },
		"who makes it a status":   func() result { return do(t.Context(), r, call(newID(), proven), internal) },
		"in the Begin of a saga":  func() result { return do(t.Context(), saga, call(newID(), proven), pay(straight)) },
	} {
		relay.cuts.Store(true)
		if got := one(); got != (result{Verdict: feature.Unavailable}) {
			t.Errorf("%s: got %+v", name, got)
		}
		relay.cuts.Store(false)
	}
	direct.check(t, 0, 0, 0)
	ok(t, do(t.Context(), r, call(newID(), proven), bump))
}

func TestAnUnansweredCommitIsTold(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		f := &faulty{DB: adopt(k.url, k.db)}
		r := k.start(t, func(c *exactlyonce.Config) { c.DB = f })
		f.silent.Store(true)
		var after error
		got := do(t.Context(), r, call(newID()), afterwards(&after, bump))
		if got != (result{Code: codes.Unavailable}) || !errors.Is(after, exactlyonce.ErrOutcomeUnknown) {
			t.Errorf("got %+v, and afterwards %v", got, after)
		}
		k.check(t, 1, 1, 0)
	})
}
