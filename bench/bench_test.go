package main

import (
	"context"
	"crypto/tls"
	"math"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

func TestMain(m *testing.M) {
	clientsInstead()
	os.Exit(m.Run())
}

// The targets that do not depend on time are tests. Not parallel: what the whole process allocates is counted.
func TestTheGuardAddsAtMostFourAllocationsToACall(t *testing.T) {
	c, err := compareCalls(calling{callers: 1, deadline: true}, 2*time.Second,
		func(w *workloads) (*place, error) { return w.bare(&ledger{}) },
		func(w *workloads) (*place, error) { return w.guarded(1000, &ledger{}) })
	if err != nil {
		t.Fatal(err)
	}
	more := c.difference(allocs)
	t.Logf("%.2f allocations more (%.2f to %.2f in %d pairs)", more.Median, more.Low, more.High, more.Count)
	if math.Round(more.Median) > 4 { // they are whole; what else the process does adds some hundredths
		t.Errorf("a guarded call makes %.2f allocations more than a bare one, want 4 at most", more.Median)
	}
}

func TestGRPCsEngineLetsTheCallIn(t *testing.T) {
	t.Parallel()
	engine, stop, err := newEngine()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := engine.measure(); err != nil {
		t.Error(err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestWhatIsComparedDoesTheSameOnBothSides(t *testing.T) {
	t.Parallel()
	w := newWorkloads()
	for name, start := range map[string]func() (*place, error){
		"bare":    func() (*place, error) { return w.bare(&ledger{}) },
		"guarded": func() (*place, error) { return w.guarded(10, &ledger{}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, err := start()
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := p.close(); err != nil {
					t.Error(err)
				}
			}()
			if err := p.connectOnce(); err != nil {
				t.Errorf("connect: %v", err)
			}
			conn, err := p.dial()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close() }()
			once := time.Now().Add(time.Millisecond)
			for what, run := range map[string]func(*grpc.ClientConn, time.Time) (int, error){
				"calls": calling{callers: 2, deadline: true, payload: 64 << 10}.call, "streams": openStreams, "messages": receiveMessages,
			} {
				if n, err := run(conn, once); err != nil || n == 0 {
					t.Errorf("%s: %d, %v", what, n, err)
				}
			}
			clients, err := startClients(w, p.address, 3)
			if err != nil {
				t.Fatalf("clients in another process: %v", err)
			}
			if err := clients.stop(); err != nil {
				t.Errorf("clients in another process: %v", err)
			}
		})
	}
}

func TestBothSidesUseTheSameTLS(t *testing.T) {
	t.Parallel()
	w := newWorkloads()
	// The numbers of the version, the cipher suite and the key exchange, and how many certificates the client showed.
	var got [2][4]int
	for i, start := range []func(*ledger) (*place, error){
		func(l *ledger) (*place, error) { return w.bare(l) },
		func(l *ledger) (*place, error) { return w.guarded(10, l) },
	} {
		p, err := start(&ledger{entered: func(ctx context.Context) {
			if from, ok := peer.FromContext(ctx); ok {
				state := from.AuthInfo.(credentials.TLSInfo).State
				got[i] = [4]int{int(state.Version), int(state.CipherSuite), int(state.CurveID), len(state.PeerCertificates)}
			}
		}})
		if err != nil {
			t.Fatal(err)
		}
		if err := callOnce(t, p, nil); err != nil {
			t.Error(err)
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
	if diff := cmp.Diff(got[0], got[1]); diff != "" || got[0][3] != 2 {
		t.Errorf("bare (-) and guarded (+) connections differ, or the client did not show leaf and issuer: %v\n%s", got, diff)
	}
}

func TestNeitherSideServesWithoutACertificate(t *testing.T) {
	t.Parallel()
	w := newWorkloads()
	for name, start := range map[string]func() (*place, error){
		"bare":    func() (*place, error) { return w.bare(&ledger{}) },
		"guarded": func() (*place, error) { return w.guarded(10, &ledger{}) },
	} {
		p, err := start()
		if err != nil {
			t.Fatal(err)
		}
		anonymous := credentials.NewTLS(&tls.Config{InsecureSkipVerify: true})
		if err := callOnce(t, p, anonymous); status.Code(err) != codes.Unavailable {
			t.Errorf("%s: a client without a certificate got %v, want %s", name, err, codes.Unavailable)
		}
		if err := p.close(); err != nil {
			t.Error(err)
		}
	}
}

// callOnce makes one call, with other credentials than those of the place if some are given.
func callOnce(t *testing.T, p *place, creds credentials.TransportCredentials) error {
	t.Helper()
	dial := p.dial
	if creds != nil {
		dial = func() (*grpc.ClientConn, error) {
			return grpc.NewClient(p.address, grpc.WithTransportCredentials(creds))
		}
	}
	conn, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	defer cancel()
	_, err = ledgerv1.NewLedgerServiceClient(conn).GetBalance(ctx, &ledgerv1.GetBalanceRequest{})
	return err
}

func TestTheMedianAndItsInterval(t *testing.T) {
	t.Parallel()
	hundred := make([]float64, 100)
	for i := range hundred {
		hundred[i] = float64(100 - i)
	}
	for _, c := range []struct {
		name     string
		measured []float64
		want     estimate
	}{
		{"one value is all there is to know", []float64{3}, estimate{3, 3, 3, 1}},
		{"few values: the extremes", []float64{4, 1, 2, 3}, estimate{2.5, 1, 4, 4}},
		// Binomial(100, 1/2): ranks 40 and 61 enclose the median with 95 %.
		{"many values: ranks around the middle", hundred, estimate{50.5, 40, 61, 100}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if diff := cmp.Diff(c.want, estimateOf(c.measured)); diff != "" {
				t.Errorf("estimateOf(%v), want (-) got (+):\n%s", c.measured, diff)
			}
		})
	}
}

func TestATargetIsMetMissedOrUnclear(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		target target
		low    float64
		high   float64
		want   string
	}{
		{"all of the interval is good enough", atLeast(0.97), 0.98, 1.1, "met"},
		{"none of it is", atLeast(0.97), 0.9, 0.96, "missed"},
		{"the target lies inside", atLeast(0.97), 0.9, 1.1, "unclear"},
		{"at most is the other way round", atMost(4), 1.9, 2.1, "met"},
		{"exactly at the bound", atMost(4), 4, 4, "met"},
		{"without a target there is nothing to meet", target{}, 1, 2, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.target.verdict(estimate{Low: c.low, High: c.high}); got != c.want {
				t.Errorf("%v over %v to %v: got %q, want %q", c.target, c.low, c.high, got, c.want)
			}
		})
	}
}
