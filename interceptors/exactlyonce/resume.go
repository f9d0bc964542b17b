package exactlyonce

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

const (
	// firstAttempt bounds the first attempt at a saga that was taken over, and lastAttempt the later ones, each of which may take
	// twice as long as the one before: sagas that hang leave their places to others soon, and one that is slow gets its time.
	firstAttempt = 5 * time.Second
	lastAttempt  = time.Minute
	// maxAtOnce bounds the sagas of one method that one process has taken over and runs. Methods do not share it, because they may
	// wait for different services.
	maxAtOnce = 8
	// manyAttempts is after how many of them a saga that is not finished is an error, which somebody should look at.
	manyAttempts = 10
)

// resumption is how the sagas of a method go on.
type resumption struct {
	request protoreflect.MessageDescriptor
	run     func(ctx context.Context, request []byte) error
	free    atomic.Int64 // how many more may be taken over
}

// OnResume gives a method the saga form. f goes on with requests that had begun and were not finished: the process
// was killed, or the handler returned an error. It is called before the server starts, and panics after that.
//
// The context that f gets has the Saga, and no caller: whose request it is, the Saga's Key tells. f may run again after every
// error, and beside an earlier run that has fallen silent, of which only one can finish; so what it calls must take effect once,
// with request_ids from Saga.Child. What it returns counts for nothing without Finish or Refuse. The first attempt ends after 5
// seconds, and later ones after twice as long each, up to a minute; the next one comes after 1 second to 5 minutes.
func OnResume[Req, Resp proto.Message](r *Requests, method string, f func(ctx context.Context, request Req) (Resp, error)) {
	var none Req
	typ := none.ProtoReflect().Type()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.serves {
		panic("exactlyonce: OnResume of " + method + " after the server has started, when nobody looks for its sagas any more: call it before Serve")
	}
	saga := &resumption{request: typ.Descriptor(), run: func(ctx context.Context, text []byte) error {
		request := typ.New().Interface().(Req)
		if err := proto.Unmarshal(text, request); err != nil {
			return fmt.Errorf("decode the stored request: %w", err)
		}
		_, err := f(ctx, request)
		return err
	}}
	saga.free.Store(maxAtOnce)
	r.sagas[method] = saga
}

// takeOver looks for sagas that nobody runs, until ctx ends, and runs them. Where there may be more than it had places for, it
// looks again as soon as a place is free.
func (r *Requests) takeOver(ctx context.Context) {
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	freed := make(chan struct{}, 1)
	for {
		left, more, err := r.left(ctx)
		if err != nil && ctx.Err() == nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "sagas that were left behind could not be read", slog.Any("error", err))
		}
		for _, row := range left {
			saga := r.sagas[row.Method]
			saga.free.Add(-1)
			r.work.Go(func() {
				defer func() {
					saga.free.Add(1)
					select {
					case freed <- struct{}{}:
					default:
					}
				}()
				r.resume(ctx, saga, row)
			})
		}
		again := freed
		if !more {
			again = nil
		}
		select {
		case <-tick.C:
		case <-again:
		case <-ctx.Done():
			return
		}
	}
}

// left takes sagas whose lease has ended: from the transaction's commit on they are this process's. more says that there may be
// others.
func (r *Requests) left(ctx context.Context) (taken []row, more bool, err error) {
	err = r.write(ctx, func(ctx context.Context, t *transaction) error {
		taken, more = nil, false
		var now int64
		if err := t.tx.QueryRowContext(ctx, "SELECT "+t.clock()).Scan(&now); err != nil {
			return err
		}
		for method, saga := range r.sagas {
			most := saga.free.Load()
			found, err := t.abandoned(ctx, method, now, most)
			if err != nil {
				return err
			}
			taken = append(taken, found...)
			more = more || int64(len(found)) == most
		}
		for i := range taken {
			taken[i].fence++
			if _, err := t.change(ctx, "UPDATE rolecall_requests SET fence = $1, lease_us = $2 WHERE key = $3",
				taken[i].fence, now+r.config.Lease.Microseconds(), taken[i].sum); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return taken, more, nil
}

// abandoned reads sagas of a method whose lease has ended, and locks them. One that ends later than any lease may, by far, since now
// was read a moment ago, is from before the clock of the database was set back.
func (t *transaction) abandoned(ctx context.Context, method string, now, most int64) ([]row, error) {
	skip := ""
	if t.dialect == DialectPostgreSQL {
		skip = " FOR UPDATE SKIP LOCKED"
	}
	found, err := t.tx.QueryContext(ctx, "SELECT key, method, peer, signer, on_behalf_of, request_id, created_us, request, fence FROM rolecall_requests "+
		"WHERE state = 'RUNNING' AND (lease_us <= $1 OR lease_us > $2) AND method = $3 ORDER BY lease_us LIMIT $4"+skip,
		now, now+2*maxLease.Microseconds(), method, most)
	if err != nil {
		return nil, err
	}
	defer found.Close() //nolint:errcheck // Err tells
	var rows []row
	for found.Next() {
		var one row
		var created int64
		if err := found.Scan(&one.sum, &one.Method, &one.Peer, &one.Signer, &one.User, &one.RequestID, &created, &one.request, &one.fence); err != nil {
			return nil, err
		}
		one.created = time.UnixMicro(created)
		rows = append(rows, one)
	}
	return rows, found.Err()
}

// resume runs one attempt at a saga that was taken over.
func (r *Requests) resume(ctx context.Context, saga *resumption, taken row) {
	ctx, cancel := context.WithTimeout(ctx, min(firstAttempt<<min(max(taken.fence-2, 0), 20), lastAttempt))
	defer cancel()
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	s := &Saga{
		requests: r, request: &request{key: taken.Key, sum: taken.Key.sum()},
		created: taken.created, fence: taken.fence, lost: lost,
	}
	s.lease = r.renew(s)
	defer s.release()
	log := r.log.With(slog.String("method", taken.Method), slog.String("request_id", taken.RequestID), slog.Int("attempt", s.Attempt()))
	log.LogAttrs(ctx, slog.LevelInfo, "a saga is resumed")
	defer func() {
		if p := recover(); p != nil {
			log.LogAttrs(ctx, slog.LevelError, "a saga that was resumed panicked", slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		}
	}()
	if err := saga.run(context.WithValue(ctx, sagaKey{}, s), taken.request); s.answer == nil {
		level := slog.LevelWarn
		if s.Attempt() >= manyAttempts {
			level = slog.LevelError
		}
		log.LogAttrs(ctx, level, "a saga was not finished, the next attempt follows",
			slog.Duration("age", r.now().Sub(s.created).Round(time.Second)), slog.Any("error", err))
	}
}

// tellOfOrphans logs sagas of methods that have the saga form no more, or have another name: nobody will ever finish those.
func (r *Requests) tellOfOrphans(ctx context.Context) {
	left := make(map[string]int)
	err := r.write(ctx, func(ctx context.Context, t *transaction) error {
		clear(left)
		found, err := t.tx.QueryContext(ctx, "SELECT method, COUNT(*) FROM rolecall_requests WHERE state = 'RUNNING' GROUP BY method")
		if err != nil {
			return err
		}
		defer found.Close() //nolint:errcheck // Err tells
		for found.Next() {
			var method string
			var n int
			if err := found.Scan(&method, &n); err != nil {
				return err
			}
			left[method] = n
		}
		return found.Err()
	})
	if err != nil {
		r.log.LogAttrs(ctx, slog.LevelWarn, "sagas that were left behind could not be counted", slog.Any("error", err))
	}
	for method, n := range left {
		if r.sagas[method] == nil {
			r.log.LogAttrs(ctx, slog.LevelWarn, "sagas have begun and are of a method that was not given to exactlyonce.OnResume: nobody finishes them",
				slog.String("method", method), slog.Int("sagas", n))
		}
	}
}
