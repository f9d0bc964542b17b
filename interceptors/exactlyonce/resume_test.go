package exactlyonce_test

import (
	"context"
	"database/sql"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/internal/store/storetest"
)

// crashed begins sagas that are not finished, one with each note.
func crashed(t *testing.T, k *kit, notes ...string) {
	t.Helper()
	seed := k.start(t, nil, never(t))
	idle(t, seed)
	for _, note := range notes {
		c := call(newID())
		c.Message.(*ledgerv1.TransferRequest).Note = note
		do(t.Context(), seed, c, pay(func(context.Context, *exactlyonce.Saga) error { return status.Error(codes.Unavailable, "crash") }))
	}
}

func finish(ctx context.Context) (*ledgerv1.TransferResponse, error) {
	m := response("x")
	return m, exactlyonce.SagaFrom(ctx).Finish(ctx, m, effect)
}

func hang(ctx context.Context) (*ledgerv1.TransferResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestSagasThatHangLeaveTheirPlacesToOthers(t *testing.T) {
	t.Parallel()
	k := newKit(t, storetest.SQLite(t))
	k.createEffects(t)
	var notes []string
	for n := range 9 {
		notes = append(notes, strconv.Itoa(n))
	}
	crashed(t, k, notes...)
	k.exec(t, "UPDATE rolecall_requests SET lease_us = created_us - 3600000000") // in this order
	var good atomic.Bool
	k.start(t, nil, resume(func(ctx context.Context, r *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
		if r.GetNote() != "8" {
			return hang(ctx)
		}
		good.Store(true)
		return finish(ctx)
	}))
	eventually(t, "the ninth saga is resumed", good.Load)
}

func TestManySagasWaitForPlacesAndNotForTheNextLook(t *testing.T) {
	t.Parallel()
	k := newKit(t, storetest.SQLite(t))
	k.createEffects(t)
	crashed(t, k, make([]string, 100)...)
	k.exec(t, "UPDATE rolecall_requests SET lease_us = 1")
	began := time.Now()
	var good atomic.Int64
	k.start(t, func(c *exactlyonce.Config) { c.Lease = 10 * time.Minute }, resume(func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
		m, err := finish(ctx)
		if err == nil {
			good.Add(1)
		}
		return m, err
	}), func(r *exactlyonce.Requests) { r.LookEvery(time.Hour) })
	eventually(t, "all are resumed", func() bool { return good.Load() == 100 })
	t.Logf("100 sagas in %v", time.Since(began).Round(time.Millisecond))
}

func TestSagasThatHangTakeNoPlaceFromOtherMethods(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		crashed(t, k, "0", "1", "2", "3", "4", "5", "6", "7", "8")
		k.exec(t, "UPDATE rolecall_requests SET lease_us = created_us - 3600000000")
		k.exec(t, "UPDATE rolecall_requests SET method = $1 WHERE lease_us = (SELECT MAX(lease_us) FROM rolecall_requests)", open)
		var good, hung atomic.Int64
		k.start(t, nil, resume(func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
			hung.Add(1)
			return hang(ctx)
		}), func(r *exactlyonce.Requests) {
			exactlyonce.OnResume(r, open, func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
				if hung.Load() <= 8 {
					good.Add(1)
				}
				return nil, ctx.Err()
			})
		})
		eventually(t, "that of the other method is resumed", func() bool { return good.Load() > 0 })
	})
}

func TestResumeAfterTheServerHasStartedPanics(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil)
		defer func() {
			if p, _ := recover().(string); !strings.Contains(p, "before Serve") {
				t.Errorf("got %q", p)
			}
			ok(t, do(t.Context(), r, call(newID()), bump)) // what was registered is as it was
		}()
		never(t)(r)
	})
}

func TestSagasThatNobodyResumesAreLogged(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		crashed(t, k, "0", "1")
		k.exec(t, "UPDATE rolecall_requests SET lease_us = lease_us + 60000000")
		idle(t, k.start(t, nil, never(t))) // it would resume these, in a minute
		if k.log.has("nobody finishes them") {
			t.Errorf("the log has %s", k.log.String())
		}
		k.start(t, nil)
		if !k.log.has("level=WARN", "nobody finishes them", transfer, "sagas=2") {
			t.Errorf("the log has %s", k.log.String())
		}
		k.exec(t, "DELETE FROM rolecall_requests")
	})
}

func TestASagaThatFailsAgainAndAgainIsAnErrorInTheLog(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		crashed(t, k, "x")
		k.exec(t, "UPDATE rolecall_requests SET lease_us = 0, fence = 8, created_us = created_us - 3600000000")
		var id string
		if err := k.reads.QueryRowContext(t.Context(), "SELECT request_id FROM rolecall_requests").Scan(&id); err != nil {
			t.Fatal(err)
		}
		failed := make(chan struct{}, 100)
		r := k.start(t, nil, resume(func(context.Context, *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
			failed <- struct{}{}
			return nil, status.Error(codes.Unavailable, "no")
		}))
		<-failed
		eventually(t, "a line of the ninth attempt", func() bool { return k.log.has("level=WARN", "was not finished", "attempt=9 ", id) })
		// Its release comes after the line.
		eventually(t, "due again", func() bool {
			k.exec(t, "UPDATE rolecall_requests SET lease_us = 0")
			select {
			case <-failed:
				return true
			default:
				return false
			}
		})
		eventually(t, "a line of the tenth attempt", func() bool {
			return k.log.has("level=ERROR", "was not finished", "attempt=10 ", "age=1h0m", id, transfer)
		})
		idle(t, r)
	})
}

func TestLeasesGoByTheClockOfTheDatabase(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, k *kit) {
		r := k.start(t, nil, never(t))
		ahead := &kit{url: k.url, db: k.db, reads: k.reads}
		ahead.pass(time.Hour)
		db := &polled{DB: adopt(k.url, k.db)}
		early := ahead.start(t, func(c *exactlyonce.Config) { lease(c); c.DB = db }, never(t))
		ok(t, do(t.Context(), r, call(newID()), pay(func(context.Context, *exactlyonce.Saga) error {
			before := db.n.Load()
			eventually(t, "looked for several times", func() bool { return db.n.Load() > before+5 })
			return nil
		})))
		idle(t, early)
		idle(t, r)
		crashed(t, k, "x")
		behind := &kit{url: k.url, db: k.db, reads: k.reads}
		behind.pass(-time.Hour)
		var resumed atomic.Bool
		behind.start(t, lease, resume(func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
			resumed.Store(true)
			return finish(ctx)
		}))
		eventually(t, "taken over by one whose clock is behind", resumed.Load)
	})
}

// polled counts transactions.
type polled struct {
	exactlyonce.DB
	n atomic.Int64
}

func (p *polled) Write(ctx context.Context, run func(context.Context, *sql.Tx) error) error {
	p.n.Add(1)
	return p.DB.Write(ctx, run)
}
