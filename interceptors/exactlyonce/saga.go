package exactlyonce

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/interceptors/internal/requestid"
)

// Saga is one run of a request of the saga form. Its methods are called by one goroutine at a time.
type Saga struct {
	requests *Requests
	request  *request
	created  time.Time
	fence    int64 // zero before Begin
	lease    *lease
	answer   *answer // what the caller gets, once that is sure

	lost context.CancelCauseFunc // ends the handler's context
}

type sagaKey struct{}

// SagaFrom returns the saga that runs: in a handler of a method that was given to OnResume, and in what OnResume was given. nil elsewhere.
func SagaFrom(ctx context.Context) *Saga {
	s, _ := ctx.Value(sagaKey{}).(*Saga)
	return s
}

// Key tells who sent the request, and its request_id.
func (s *Saga) Key() Key { return s.request.key }

// Created tells when the request began; before Begin, when it arrived.
func (s *Saga) Created() time.Time { return s.created }

// Attempt is 1 for the call itself, and more for each time that the saga was taken over.
func (s *Saga) Attempt() int { return max(1, int(s.fence)) }

// Child returns the request_id for a step of the saga, a call to another service: the same one at each attempt, and another one
// for each step and each request.
func (s *Saga) Child(step string) string { return requestid.Child([16]byte(s.request.sum[:16]), step) }

// maxRequest bounds the stored request of a saga that runs, in bytes.
const maxRequest = 64 << 10

// errStands is what Begin returns where the caller is answered by what is stored.
var errStands = status.Error(codes.Aborted, "the request was answered before, or runs elsewhere")

// Begin stores that the request runs, together with what f does in its transaction, by Tx of the context it is given. From
// then on the request is finished, by this handler or by a later attempt. With an error nothing is stored: the handler
// returns the error, and the caller gets what stands. A request of more than 64 KiB is refused with INVALID_ARGUMENT, and one on
// behalf of a user for whom 100 run with RESOURCE_EXHAUSTED: requests are stored whole while they run.
func (s *Saga) Begin(ctx context.Context, f func(context.Context) error) error {
	if s.fence != 0 {
		return status.Error(codes.Internal, "the saga has begun already")
	}
	text, err := proto.Marshal(s.request.message)
	if err != nil {
		return status.Error(codes.InvalidArgument, "the request cannot be encoded")
	}
	if len(text) > maxRequest {
		return status.Errorf(codes.InvalidArgument, "the request has %d bytes, and %d can be stored while it runs: make it smaller", len(text), maxRequest)
	}
	r := s.requests
	var stored *answer
	var row *row
	err = r.write(ctx, func(ctx context.Context, t *transaction) (err error) {
		if stored, err = r.claim(ctx, t, s.request); err != nil || stored != nil {
			return err
		}
		if err := t.roomToRun(ctx, s.request.key); err != nil {
			return err
		}
		row = r.newRow(s.request, running, nil)
		row.request, row.fence, row.lease = text, 1, r.config.Lease
		if err := r.store(ctx, t, row); err != nil {
			return err
		}
		return t.inSavepoint(ctx, f)
	})
	if err == nil && stored == nil {
		s.created, s.fence = row.created, row.fence
		s.lease = r.renew(s)
		return nil
	}
	var handlers undone
	if errors.As(err, &handlers) && !gaveWay(err) {
		return handlers.error
	}
	var a answer
	if stored != nil {
		a = *stored
	}
	a = r.settled(ctx, s.request.key.Method, a, err)
	s.answer = &a
	return errStands
}

// Finish stores the response of the request, together with what f does in its transaction. The handler returns the two:
//
//	return response, saga.Finish(ctx, response, f)
//
// The end of the caller's context does not interrupt it. It fails, and nothing that f did stays, where the saga was taken over meanwhile.
func (s *Saga) Finish(ctx context.Context, response proto.Message, f func(context.Context) error) error {
	text, err := encodeResponse(response)
	if err != nil {
		return err
	}
	return s.end(ctx, done, text, answer{response: text}, f)
}

// Refuse stores that the request does not take effect, together with what f does in its transaction, and returns the refusal
// then, which has one of the codes that are final. Else as Finish:
//
//	return nil, saga.Refuse(ctx, err, f)
func (s *Saga) Refuse(ctx context.Context, refusal error, f func(context.Context) error) error {
	final, ok := finalRefusal(refusal)
	if !ok {
		return errNotFinal(status.Code(refusal))
	}
	text, final := encodeRefusal(final)
	if err := s.end(ctx, refused, text, answer{err: final.Err()}, f); err != nil {
		return err
	}
	return final.Err()
}

// endTimeout bounds the transaction that ends a saga, whose caller may have left.
const endTimeout = 10 * time.Second

// errLost is what ends a handler whose saga goes on elsewhere.
var errLost = status.Error(codes.Aborted, "the saga was taken over by another attempt")

func (s *Saga) end(ctx context.Context, state string, outcome []byte, a answer, f func(context.Context) error) error {
	if s.fence == 0 || s.answer != nil {
		return status.Error(codes.Internal, "the saga has not begun, or has ended: Begin, and then one of Finish and Refuse")
	}
	r := s.requests
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	err := r.write(ctx, func(ctx context.Context, t *transaction) error {
		now := r.now()
		// First, so that who takes the saga over waits for this transaction, or this one is too late.
		changed, err := t.change(ctx, "UPDATE rolecall_requests SET state = $1, outcome = $2, request = NULL, stored_us = $3, expires_us = $4 "+
			"WHERE key = $5 AND fence = $6 AND state = 'RUNNING'", state, outcome, now.UnixMicro(), now.Add(r.config.Keep).UnixMicro(), s.request.sum[:], s.fence)
		if err != nil {
			return err
		}
		if !changed {
			return undone{errLost}
		}
		return t.inSavepoint(ctx, f)
	})
	if err == nil {
		s.answer = &a
		return nil
	}
	var handlers undone
	if errors.As(err, &handlers) && !gaveWay(err) {
		return handlers.error
	}
	return r.status(ctx, s.request.key.Method, err)
}

// saga answers a request of the saga form.
func (r *Requests) saga(ctx context.Context, q *request, run func(context.Context) (proto.Message, error)) answer {
	if a := r.look(ctx, q); a != nil {
		return *a
	}
	ctx, lost := context.WithCancelCause(ctx)
	defer lost(nil)
	s := &Saga{requests: r, request: q, created: r.now(), lost: lost}
	defer s.release() // also when the handler panics
	message, err := run(context.WithValue(ctx, sagaKey{}, s))
	switch {
	case s.answer != nil:
		return *s.answer
	case s.fence == 0 && err != nil && !isFinal(err):
		return answer{err: err}
	case s.fence == 0:
		return r.local(ctx, q, func(context.Context) (proto.Message, error) { return message, err })
	default:
		return s.unfinished(ctx, err)
	}
}

// look answers a request from what is stored. nil: the handler runs, and nothing was burned yet.
func (r *Requests) look(ctx context.Context, q *request) *answer {
	var stored *answer
	err := r.write(ctx, func(ctx context.Context, t *transaction) (err error) {
		if stored, err = r.claim(ctx, t, q); err == nil && stored == nil {
			err = errNothing
		}
		return err
	})
	if errors.Is(err, errNothing) {
		return nil
	}
	if stored == nil {
		stored = &answer{}
	}
	a := r.settled(ctx, q.key.Method, *stored, err)
	return &a
}

var errNothing = errors.New("nothing is stored of the request")

// unfinished is the answer of a handler that has begun and not finished: what another attempt has stored meanwhile, or an
// error, but never one that looks final, because a later attempt will finish.
func (s *Saga) unfinished(ctx context.Context, err error) answer {
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTimeout)
	defer cancel()
	if found, readErr := s.requests.Find(bounded, s.request.key); readErr == nil && found != nil {
		return found.answer()
	}
	if err == nil || isFinal(err) {
		s.requests.log.LogAttrs(ctx, slog.LevelError, "a saga ended without Finish or Refuse; it will be resumed",
			slog.String("method", s.request.key.Method), slog.Any("error", err))
		return again(feature.RequestInProgress)
	}
	return answer{err: err}
}

// taken tells whether the saga goes on elsewhere or has ended there.
func (s *Saga) taken(ctx context.Context, t *transaction) (bool, error) {
	var state string
	var fence int64
	err := t.tx.QueryRowContext(ctx, "SELECT state, fence FROM rolecall_requests WHERE key = $1", s.request.sum[:]).Scan(&state, &fence)
	return fence != s.fence, err
}
