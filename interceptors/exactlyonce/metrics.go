package exactlyonce

import (
	"context"
	"errors"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/rolecall/interceptors/internal/feature"
)

// Kinds of what Do answers, in metrics.
const (
	kindRan int = iota // the handler's response or error
	kindRepeated
	kindRefused // the package refused, or the database did not answer
	kindInProgress
	kinds
)

var kindNames = [kinds]string{kindRan: "ran", kindRepeated: "repeated", kindRefused: "refused", kindInProgress: "in_progress"}

// counts is what the feature counts. Safe for concurrent use.
type counts struct {
	outcomes [kinds]atomic.Int64
	sagas    atomic.Int64 // that this process runs
	metrics  metric.Registration
}

func (c *counts) count(a answer) {
	kind := kindRan
	switch {
	case a.repeated:
		kind = kindRepeated
	case a.verdict == feature.InProgress:
		kind = kindInProgress
	case a.verdict != feature.Good || a.retry > 0:
		kind = kindRefused
	}
	c.outcomes[kind].Add(1)
}

// observe publishes the counts. They are read when somebody collects.
func (c *counts) observe(meters metric.MeterProvider) error {
	meter := meters.Meter("example.com/rolecall/interceptors/exactlyonce")
	outcomes, err := meter.Int64ObservableCounter("rolecall.exactly_once.outcomes",
		metric.WithDescription("Answers to requests of methods with exactly_once: ran, repeated (from what is stored), refused, in_progress."))
	sagas, failed := meter.Int64ObservableGauge("rolecall.exactly_once.sagas_running", metric.WithUnit("{saga}"),
		metric.WithDescription("Sagas that this process runs."))
	if err = errors.Join(err, failed); err != nil {
		return err
	}
	c.metrics, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		for kind := range c.outcomes {
			o.ObserveInt64(outcomes, c.outcomes[kind].Load(), metric.WithAttributes(attribute.String("kind", kindNames[kind])))
		}
		o.ObserveInt64(sagas, c.sagas.Load())
		return nil
	}, outcomes, sagas)
	return err
}

func (c *counts) close() error {
	if c.metrics == nil {
		return nil
	}
	return c.metrics.Unregister()
}
