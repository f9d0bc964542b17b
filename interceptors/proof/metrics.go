package proof

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/rolecall/interceptors/internal/feature"
)

// verdicts is how many there are of feature.Verdict.
const verdicts = feature.InProgress + 1

// verdictNames are what metrics call the verdicts on proofs.
var verdictNames = [verdicts]string{
	feature.Good: "good", feature.Invalid: "invalid", feature.Expired: "expired", feature.Unavailable: "unavailable",
	feature.Unknown: "signer_unknown", feature.Replayed: "replayed", feature.Full: "window_full",
}

// observe publishes what the feature counts. It is read when somebody collects.
func (p *proofs) observe() error {
	meter := p.env.Meters.Meter("example.com/rolecall/interceptors/proof")
	var errs []error
	var instruments []metric.Observable
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		g, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		instruments, errs = append(instruments, g), append(errs, err)
		return g
	}
	counter := func(name, description string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithDescription(description))
		instruments, errs = append(instruments, c), append(errs, err)
		return c
	}
	live := gauge("rolecall.proofs.nonces", "{nonce}", "Nonces that a window in memory remembers.")
	keys := gauge("rolecall.proofs.keys", "{key}", "Keys of signers that are remembered.")
	verified := counter("rolecall.proofs.verifications", "Verifications of proofs, by result.")
	refused := counter("rolecall.proofs.window_refusals", "Good proofs that the replay window refused, by result.")
	fetches := counter("rolecall.proofs.key_fetches", "Questions to the key server.")
	receipts := counter("rolecall.proofs.receipts", "Receipts that came for own requests, by whether they held.")
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var err error
	p.metrics, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if p.memory != nil {
			o.ObserveInt64(live, p.memory.live.Load())
		}
		o.ObserveInt64(keys, int64(p.ring.len()))
		o.ObserveInt64(fetches, p.ring.fetches.Load())
		for verdict, name := range verdictNames {
			result := metric.WithAttributes(attribute.String("result", name))
			if n := p.verified[verdict].Load(); n > 0 {
				o.ObserveInt64(verified, n, result)
			}
			if n := p.refused[verdict].Load(); n > 0 {
				o.ObserveInt64(refused, n, result)
			}
		}
		for held := range p.receipts {
			if n := p.receipts[held].Load(); n > 0 {
				o.ObserveInt64(receipts, n, metric.WithAttributes(attribute.Bool("held", held == 1)))
			}
		}
		return nil
	}, instruments...)
	return err
}
