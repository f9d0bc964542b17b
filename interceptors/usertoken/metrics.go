package usertoken

import (
	"context"
	"errors"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"example.com/rolecall/interceptors/internal/feature"
)

// verdicts are the names of feature.Verdict in metrics.
var verdicts = [...]string{
	feature.Good: "good", feature.Invalid: "invalid", feature.Expired: "expired", feature.Revoked: "revoked", feature.Unavailable: "unavailable",
}

// observe publishes what the verifier counts. It is read when somebody collects.
func (v *verifier) observe() (err error) {
	meter := v.env.Meters.Meter("example.com/rolecall/interceptors/usertoken")
	var instruments []metric.Observable
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		g, failed := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		if failed != nil {
			err = failed
		}
		instruments = append(instruments, g)
		return g
	}
	age := gauge("rolecall.user_tokens.view_age", "s", "Seconds since a stream with a complete view of revocations was last heard; it says something every 5 s.")
	known := gauge("rolecall.user_tokens.revocations", "{revocation}", "Revocations that are remembered.")
	cached := gauge("rolecall.user_tokens.cached", "{token}", "Verified tokens that are remembered.")
	verified, failed := meter.Int64ObservableCounter("rolecall.user_tokens.verifications",
		metric.WithDescription("Verifications of user tokens, by result and whether the token was remembered."))
	if err != nil || failed != nil {
		return errors.Join(err, failed)
	}
	v.metrics, err = meter.RegisterCallback(func(_ context.Context, o metric.Observer) error {
		if v.follower != nil {
			o.ObserveInt64(age, int64(v.follower.age().Seconds()))
		}
		o.ObserveInt64(known, int64(v.revoked.len()))
		o.ObserveInt64(cached, int64(v.cache.len()))
		for verdict := range v.results {
			for remembered := range v.results[verdict] {
				if n := v.results[verdict][remembered].Load(); n > 0 {
					o.ObserveInt64(verified, n, metric.WithAttributes(
						attribute.String("result", verdicts[verdict]), attribute.Bool("cached", remembered == 1)))
				}
			}
		}
		return nil
	}, append(instruments, verified)...)
	return err
}
