package exactlyonce

import (
	"context"
	"log/slog"

	"google.golang.org/grpc/status"

	"example.com/rolecall/interceptors/internal/feature"
)

// Find returns what came of a request, and nil for one that is not known: it has not arrived, has not ended, has been undone, or
// is forgotten. While a saga runs it is ABORTED with the reason REQUEST_IN_PROGRESS; its errors are statuses that a handler may
// return as they are. Who may ask is for the caller to see to: it makes the key.
func (r *Requests) Find(ctx context.Context, key Key) (*Outcome, error) {
	key, err := key.normal()
	if err != nil {
		return nil, err
	}
	var outcome *Outcome
	err = r.within(ctx, func(ctx context.Context, t *transaction) error {
		outcome = nil
		found, err := t.find(ctx, key.sum())
		if err != nil || found == nil {
			return err
		}
		outcome, err = found.outcomeIfEnded()
		return err
	})
	return outcome, r.status(ctx, key.Method, err)
}

// Cancel settles a request of which nobody knows what came of it: an outcome that is stored stands, and else the refusal is
// stored, so that the request is refused whenever it arrives, whatever its payload. The refusal has one of the codes that are
// final. While the request runs it is ABORTED with the reason REQUEST_IN_PROGRESS. There is room for it, as much again as
// Config.MaxRows, where requests have used theirs up. Else as Find.
func (r *Requests) Cancel(ctx context.Context, key Key, refusal *status.Status) (Outcome, error) {
	key, err := key.normal()
	if err != nil {
		return Outcome{}, err
	}
	if !final(refusal.Code()) {
		return Outcome{}, errNotFinal(refusal.Code())
	}
	text, refusal := encodeRefusal(refusal)
	var stands Outcome
	err = r.within(ctx, func(ctx context.Context, t *transaction) error {
		got, err := t.lock(ctx, key.sum())
		if err != nil {
			return err
		}
		if !got {
			return refuse(feature.InProgress, "the request runs")
		}
		found, err := t.find(ctx, key.sum())
		if err != nil {
			return err
		}
		if found != nil {
			earlier, err := found.outcomeIfEnded()
			if err == nil {
				stands = *earlier
			}
			return err
		}
		if err := r.rows.room(ctx, t, key, 2); err != nil {
			return err
		}
		sum := key.sum()
		row := r.newRow(&request{key: key, sum: sum}, refused, text)
		row.payload = nil
		stands = Outcome{Refusal: refusal, Stored: row.stored}
		return r.store(ctx, t, row)
	})
	return stands, r.status(ctx, key.Method, err)
}

func (k Key) normal() (Key, error) {
	id, ok := RequestID(k.RequestID)
	if !ok {
		return k, feature.RequestIDRequired.Err(nil)
	}
	k.RequestID = id
	return k, nil
}

func (r *row) outcomeIfEnded() (*Outcome, error) {
	if r.state == running {
		return nil, refuse(feature.InProgress, "the request runs")
	}
	outcome, err := r.read()
	return &outcome, err
}

// status makes the gRPC status of an error of the database.
func (r *Requests) status(ctx context.Context, method string, err error) error {
	a := r.settled(ctx, method, answer{}, err)
	switch a.verdict {
	case feature.InProgress:
		return feature.RequestInProgress.Err(nil)
	case feature.TooMany:
		return feature.RequestsFull.Err(nil)
	case feature.Unavailable:
		r.log.LogAttrs(ctx, slog.LevelError, "database error", slog.String("detail", a.detail))
		return feature.RequestsUnavailable.Err(nil)
	}
	return a.err
}
