package authority

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// counts are what the authority has done since its start. Safe for concurrent use.
type counts struct {
	issued, refused       atomic.Int64 // certificates
	jwtIssued, jwtRefused atomic.Int64 // JWT-SVIDs
	failed                atomic.Int64 // of both: allowed, and could not be signed
	registrationsStale    atomic.Bool
}

// observe publishes the counts and what an operator must not miss. They are read when somebody collects.
func (a *Authority) observe(meter metric.Meter) error {
	var failed error
	counter := func(name, description string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithDescription(description))
		failed = first(failed, err)
		return c
	}
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		failed = first(failed, err)
		return g
	}
	certificates := counter("rolecall.authority.certificates", "Certificates that were asked for, by result.")
	tokens := counter("rolecall.authority.jwt_svids", "JWT-SVIDs that were asked for, by result.")
	unsigned := counter("rolecall.authority.failures", "Requests that were allowed and could not be signed.")
	act := gauge("rolecall.authority.act_in", "s", "Seconds until somebody must have prepared the next issuer or root; negative: too late. Absent: nobody need.")
	sequence := gauge("rolecall.authority.bundle.sequence", "{number}", "Sequence number of the bundle.")
	stale := gauge("rolecall.authority.registrations.stale", "1", "1 while registrations.yaml cannot be read and the last good ones are in force.")
	if failed != nil {
		return fmt.Errorf("make metrics: %w", failed)
	}
	issued, refused := metric.WithAttributes(attribute.String("result", "issued")), metric.WithAttributes(attribute.String("result", "refused"))
	_, err := meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		o.ObserveInt64(certificates, a.counts.issued.Load(), issued)
		o.ObserveInt64(certificates, a.counts.refused.Load(), refused)
		o.ObserveInt64(tokens, a.counts.jwtIssued.Load(), issued)
		o.ObserveInt64(tokens, a.counts.jwtRefused.Load(), refused)
		o.ObserveInt64(unsigned, a.counts.failed.Load())
		if by := a.issuers.ActBy(); !by.When.IsZero() {
			o.ObserveInt64(act, int64(time.Until(by.When.Round(0))/time.Second))
		}
		o.ObserveInt64(sequence, int64(a.current.Load().bundle.GetSequence()))
		isStale := int64(0)
		if a.counts.registrationsStale.Load() {
			isStale = 1
		}
		o.ObserveInt64(stale, isStale)
		return nil
	}, certificates, tokens, unsigned, act, sequence, stale)
	if err != nil {
		return fmt.Errorf("make metrics: %w", err)
	}
	return nil
}

func first(a, b error) error {
	if a != nil {
		return a
	}
	return b
}
