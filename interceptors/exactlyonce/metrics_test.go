package exactlyonce_test

import (
	"context"
	"testing"

	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors/exactlyonce"
	"example.com/rolecall/interceptors/internal/feature"
	"example.com/rolecall/internal/store/storetest"
)

func TestOutcomesAndSagasAreCounted(t *testing.T) {
	t.Parallel()
	k := newKit(t, storetest.SQLite(t))
	k.createEffects(t)
	reader := sdkmetric.NewManualReader()
	r := exactlyonce.New(exactlyonce.Config{DB: adopt(k.url, k.db)})
	exactlyonce.OnResume(r, open, func(ctx context.Context, _ *ledgerv1.TransferRequest) (*ledgerv1.TransferResponse, error) {
		return finish(ctx)
	})
	if _, err := r.Start(feature.Env{Meters: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))}); err != nil {
		t.Fatal(err)
	}
	defer idle(t, r)
	if err := r.Serve([]feature.Method{{Full: transfer}, {Full: open}}); err != nil {
		t.Fatal(err)
	}
	id := newID()
	ok(t, do(t.Context(), r, call(id), bump))
	do(t.Context(), r, call(id), bump)
	do(t.Context(), r, call(id, func(c *feature.OnceCall) { c.Message = response("another payload") }), bump) // without a request_id
	do(t.Context(), r, call(newID()), thenFail(status.Error(codes.NotFound, "no")))
	saga := func(c *feature.OnceCall) { c.Method = open }
	id = newID()
	ok(t, do(t.Context(), r, call(id, saga), pay(func(context.Context, *exactlyonce.Saga) error {
		do(t.Context(), r, call(id, saga), bump)
		if got := collect(t, reader)["rolecall.exactly_once.sagas_running"]; got != 1 {
			t.Errorf("%d sagas run, want 1", got)
		}
		return nil
	})))
	got := collect(t, reader)
	for name, want := range map[string]int64{
		"rolecall.exactly_once.sagas_running":        0,
		"rolecall.exactly_once.outcomes ran":         3,
		"rolecall.exactly_once.outcomes repeated":    1,
		"rolecall.exactly_once.outcomes refused":     1,
		"rolecall.exactly_once.outcomes in_progress": 1,
	} {
		if got[name] != want {
			t.Errorf("%s is %d, want %d", name, got[name], want)
		}
	}
}

// collect returns the values of all metrics, under their names and kinds.
func collect(t *testing.T, from *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	if err := from.Collect(t.Context(), &all); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int64)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			switch data := m.Data.(type) {
			case metricdata.Gauge[int64]:
				got[m.Name] = data.DataPoints[0].Value
			case metricdata.Sum[int64]:
				for _, p := range data.DataPoints {
					kind, _ := p.Attributes.Value(attribute.Key("kind"))
					got[m.Name+" "+kind.AsString()] = p.Value
				}
			}
		}
	}
	return got
}
