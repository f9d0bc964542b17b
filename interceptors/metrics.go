package interceptors

import (
	"context"
	"maps"
	"slices"
	"sync"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/rolecall/interceptors/internal/identity"
)

// counters counts by a label with few values.
type counters[K ~string] struct {
	mu sync.Mutex
	n  map[K]int64
}

func (c *counters[K]) add(key K) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.n == nil {
		c.n = map[K]int64{}
	}
	c.n[key]++
}

func (c *counters[K]) each(visit func(K, int64)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key, n := range c.n {
		visit(key, n)
	}
}

// observe publishes the guard's counters. They are read when somebody collects, so that a call pays an atomic add.
func (g *Guard) observe() error {
	meter := g.options.meters.Meter("example.com/rolecall/interceptors")
	var failed error
	counter := func(name, description string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithDescription(description))
		if err != nil {
			failed = err
		}
		return c
	}
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		c, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		if err != nil {
			failed = err
		}
		return c
	}
	decisions := counter("rolecall.decisions", "Decisions by method and reason; an empty reason is an allowed call.")
	refused := counter("rolecall.handshakes.refused", "TLS handshakes that failed, by reason.")
	dropped := counter("rolecall.audit.dropped", "Audit records that were lost.")
	stale := gauge("rolecall.policy.stale", "1", "1 while the bindings cannot be read and the last good ones are in force.")
	expiry := gauge("rolecall.certificate.not_after", "s", "End of the own certificate in seconds since 1970.")
	connections := gauge("rolecall.connections", "{connection}", "Open connections of servers.")
	if failed != nil {
		return failed
	}
	var err error
	g.metrics, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		servers, _ := g.open()
		open := 0
		for _, s := range servers {
			open += len(s.connections())
			s.observe(func(method, reason string, n int64) {
				o.ObserveInt64(decisions, n, metric.WithAttributes(attribute.String("method", method), attribute.String("reason", reason)))
			})
		}
		g.refused.each(func(reason identity.Reason, n int64) {
			o.ObserveInt64(refused, n, metric.WithAttributes(attribute.String("reason", string(reason))))
		})
		status := g.Status()
		o.ObserveInt64(dropped, int64(status.AuditDropped))
		o.ObserveInt64(connections, int64(open))
		isStale := int64(0)
		if status.PolicyError != nil {
			isStale = 1
		}
		o.ObserveInt64(stale, isStale)
		if !status.CertificateNotAfter.IsZero() {
			o.ObserveInt64(expiry, status.CertificateNotAfter.Unix())
		}
		return nil
	}, decisions, refused, dropped, stale, expiry, connections)
	return err
}

func (s *Server) observe(visit func(method, reason string, n int64)) {
	each := func(m *method) {
		byName := map[string]int64{} // a reason has one name whoever it is about
		for r := range reasonCount {
			byName[r.String()] += int64(m.counts[r].Load())
		}
		for name, n := range byName {
			if n > 0 {
				visit(m.full, name, n)
			}
		}
	}
	s.mu.Lock()
	methods := slices.Collect(maps.Values(s.methods)) // services may still be registered
	s.mu.Unlock()
	for _, m := range methods {
		each(m)
	}
	each(&s.unknown)
}
