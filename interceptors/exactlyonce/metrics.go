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
	ran int = iota // the handler's response or error
	repeated
	refusedIt // the package refused, or the database did not answer
	inProgress
	kinds
)

var kindNames = [kinds]string{ran: "ran", repeated: "repeated", refusedIt: "refused", inProgress: "in_progress"}

// counts is what the feature counts. Safe for concurrent use.
type counts struct {
	outcomes [kinds]atomic.Int64
	sagas    atomic.Int64 // that this process runs
	metrics  metric.Registration
}

func (c *counts) count(a answer) {
	kind := ran
	switch {
	case a.repeated:
		kind = repeated
	case a.verdict == feature.InProgress:
		kind = inProgress
	case a.verdict != feature.Good || a.comeAgain:
		kind = refusedIt
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
