package exactlyonce

import (
	"context"
	"errors"
	"log/slog"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"example.com/rolecall/interceptors/internal/feature"
)

// local answers a request of the local form: claim, effect and outcome are one transaction.
func (r *Requests) local(ctx context.Context, q *request, run func(context.Context) (proto.Message, error)) answer {
	var prepared preparation
	for {
		var a answer
		err := r.write(ctx, func(ctx context.Context, t *transaction) error {
			stored, err := r.claim(ctx, t, q)
			if err != nil {
				return err
			}
			if stored != nil {
				a = *stored
				return nil
			}
			t.earlier = &prepared
			a, err = r.effect(ctx, t, q, run)
			return err
		})
		if !prepared.wanted() {
			return r.settled(ctx, q.key.Method, a, err)
		}
		prepared.run(ctx)
		prepared.done = true
	}
}

// effect runs the handler in the transaction and stores what came of it.
func (r *Requests) effect(ctx context.Context, t *transaction, q *request, run func(context.Context) (proto.Message, error)) (answer, error) {
	if err := t.save(ctx); err != nil {
		return answer{}, err
	}
	message, err := run(ctx)
	if t.earlier.wanted() {
		return answer{}, errPrepare
	}
	if err == nil {
		return r.keepResponse(ctx, t, q, message)
	}
	s, ok := finalRefusal(err)
	if !ok {
		return answer{}, t.undo(ctx, err)
	}
	if err := t.rollBack(ctx); err != nil {
		return answer{}, err
	}
	t.after = nil
	return r.keepRefusal(ctx, t, q, s)
}

func (r *Requests) keepResponse(ctx context.Context, t *transaction, q *request, message proto.Message) (answer, error) {
	response, err := encodeResponse(message)
	if err != nil {
		return answer{}, undone{err}
	}
	if t.dialect == DialectSQLite { // PostgreSQL takes nothing more after a statement that failed
		if err := t.release(ctx); err != nil {
			return answer{}, err
		}
	}
	return answer{response: response}, r.store(ctx, t, r.newRow(q, done, response))
}

func (r *Requests) keepRefusal(ctx context.Context, t *transaction, q *request, s *status.Status) (answer, error) {
	text, s := encodeRefusal(s)
	return answer{err: s.Err()}, r.store(ctx, t, r.newRow(q, refused, text))
}

// settled is what the caller gets of a transaction that has ended with err, and with a if it was committed.
func (r *Requests) settled(ctx context.Context, method string, a answer, err error) answer {
	var own *refusal
	var handlers undone
	switch {
	case err == nil:
		return a
	case errors.As(err, &own):
		return own.answer
	case errors.Is(err, ErrOutcomeUnknown):
		// Whether or not it took effect: the next one with this request_id finds out.
		r.log.LogAttrs(ctx, slog.LevelError, "database error", slog.String("doing", "commit a request"), slog.String("method", method), slog.Any("error", err))
		return again(feature.RequestsUnavailable)
	case gaveWay(err):
		return again(gaveUp)
	case errors.Is(err, errOver), errors.Is(err, errNotCommitted), sqlState(err) == inFailedTransaction:
		// It would be the same the next time: a mistake of the handler.
		r.log.LogAttrs(ctx, slog.LevelError, "the transaction of a handler could not be committed", slog.String("method", method), slog.Any("error", err))
		return answer{err: status.Error(codes.Internal, "internal error")}
	case errors.As(err, &handlers) && (ctx.Err() == nil || isStatus(handlers.error)):
		return answer{err: handlers.error}
	case ctx.Err() != nil:
		return answer{err: status.FromContextError(ctx.Err()).Err()}
	default:
		return answer{verdict: feature.Unavailable, detail: "the database of exactly_once: " + err.Error()}
	}
}

func isStatus(err error) bool {
	_, ok := status.FromError(err)
	return ok
}
