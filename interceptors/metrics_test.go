package interceptors_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.opentelemetry.io/otel/attribute"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
	"example.com/rolecall/interceptors"
)

// newMeter returns a reader of what a guard with the option publishes.
func newMeter() (*sdkmetric.ManualReader, interceptors.Option) {
	reader := sdkmetric.NewManualReader()
	return reader, interceptors.Meter(sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader)))
}

// collect returns the values of all metrics, under their names and attributes.
func collect(t *testing.T, from *sdkmetric.ManualReader) map[string]int64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	must(t, from.Collect(t.Context(), &all))
	got := map[string]int64{}
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			var points []metricdata.DataPoint[int64]
			switch data := m.Data.(type) {
			case metricdata.Sum[int64]:
				points = data.DataPoints
			case metricdata.Gauge[int64]:
				points = data.DataPoints
			default:
				t.Fatalf("%s is a %T", m.Name, data)
			}
			for _, p := range points {
				got[m.Name+" "+p.Attributes.Encoded(attribute.DefaultEncoder())] = p.Value
			}
		}
	}
	return got
}

func TestMetricsCountDecisionsAndRefusedHandshakes(t *testing.T) {
	t.Parallel()
	from, meter := newMeter()
	m := newMesh(t, func(c *meshConfig) { c.options = []interceptors.Option{meter} })
	conn := m.dial(reader)
	for range 3 {
		must(t, balance(t, conn))
	}
	refused(t, transfer(t, conn), codes.PermissionDenied, "ROLE_REQUIRED")
	for _, unknown := range []string{"/no.Such/Method", "/nor.This/One"} {
		err := conn.Invoke(timeout(t), unknown, &ledgerv1.TransferRequest{}, &ledgerv1.TransferResponse{})
		refused(t, err, codes.PermissionDenied, "METHOD_NOT_ANNOTATED")
	}
	for range 2 {
		handshake.check(t, m.shake(t, nil, nil))
	}
	handshake.check(t, leaf(uri("spiffe://other.local/service/reader"))(t, m))

	want := map[string]int64{
		"rolecall.decisions method=/ledger.v1.LedgerService/GetBalance,reason=":            3,
		"rolecall.decisions method=/ledger.v1.LedgerService/Transfer,reason=ROLE_REQUIRED": 1,
		"rolecall.decisions method=unknown,reason=METHOD_NOT_ANNOTATED":                    2,
		"rolecall.handshakes.refused reason=no_certificate":                                2,
		"rolecall.handshakes.refused reason=trust_domain":                                  1,
		"rolecall.audit.dropped ":                                                          0,
		"rolecall.policy.stale ":                                                           0,
		"rolecall.connections ":                                                            1,
		"rolecall.certificate.not_after ":                                                  leafOf(t, m.source).NotAfter.Unix(),
	}
	var got map[string]int64
	eventually(t, "count of everything", func() bool { // a peer may see its refusal before it is counted
		got = collect(t, from)
		return cmp.Equal(want, got)
	}, func() any { return "(-want +got):\n" + cmp.Diff(want, got) })

	must(t, m.guard.Apply("trustDomain: other.local\n"))
	if stale := collect(t, from)["rolecall.policy.stale "]; stale != 1 {
		t.Errorf("the bindings were not taken over, and rolecall.policy.stale is %d", stale)
	}
	must(t, m.guard.Close())
	if got := collect(t, from); len(got) != 0 {
		t.Errorf("a closed guard still publishes %v", got)
	}
}

// TestMetricsAreCollectedWhileServicesAreRegistered is for the race detector.
func TestMetricsAreCollectedWhileServicesAreRegistered(t *testing.T) {
	t.Parallel()
	from, meter := newMeter()
	m := newMesh(t, func(c *meshConfig) { c.options = []interceptors.Option{meter} })
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				collect(t, from)
			}
		}
	}()
	srv := m.guard.NewServer()
	for i := range 2000 {
		srv.RegisterService(&grpc.ServiceDesc{ServiceName: fmt.Sprintf("load.v1.Service%d", i), Methods: []grpc.MethodDesc{{MethodName: "Do"}}}, nil)
	}
	close(stop)
	<-done
	srv.Stop()
}
