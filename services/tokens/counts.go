package tokens

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// counts are the metrics of the service.
type counts struct {
	tokens, reuse metric.Int64Counter
	heard         atomic.Int64 // from users; nanoseconds since 1970
	now           func() time.Time
}

func newCounts(meter metric.Meter, now func() time.Time) (*counts, error) {
	c := &counts{now: now}
	c.heard.Store(now().UnixNano())
	var errs [3]error
	c.tokens, errs[0] = meter.Int64Counter("rolecall.tokens.issued", metric.WithUnit("{token}"),
		metric.WithDescription("Access tokens given out, by login and by refresh."))
	c.reuse, errs[1] = meter.Int64Counter("rolecall.tokens.reuse", metric.WithUnit("{token}"),
		metric.WithDescription("Refresh tokens that were used again after the grace: all sessions of the user ended."))
	_, errs[2] = meter.Float64ObservableGauge("rolecall.tokens.users_view_age", metric.WithUnit("s"),
		metric.WithDescription("Time since users was heard: raises of generations since then are not known to verifiers."),
		metric.WithFloat64Callback(func(_ context.Context, o metric.Float64Observer) error {
			o.Observe(max(0, now().Sub(time.Unix(0, c.heard.Load())).Seconds()))
			return nil
		}))
	return c, errors.Join(errs[:]...)
}

func (c *counts) issued(ctx context.Context, by string) {
	c.tokens.Add(ctx, 1, metric.WithAttributes(attribute.String("by", by)))
}

func (c *counts) reused(ctx context.Context) { c.reuse.Add(ctx, 1) }

func (c *counts) usersHeard() { c.heard.Store(c.now().UnixNano()) }
