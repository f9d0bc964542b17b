package interceptors_test

import (
	"context"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/resolver"
	"google.golang.org/grpc/resolver/manual"
	"google.golang.org/grpc/status"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

func TestAMethodIsRetriedWhereItsAnnotationsSayThatItDoesNoHarm(t *testing.T) {
	t.Parallel()
	const ownConfig = `{"loadBalancingConfig": [{"round_robin": {}}]}`
	for _, c := range []struct {
		name, method string
		fails        int64 // attempts, with the code
		code         codes.Code
		opts         []grpc.DialOption
		attempts     int64
		ok           bool
	}{
		{"exactly_once, UNAVAILABLE once", open, 1, codes.Unavailable, nil, 2, true},
		{"exactly_once, ABORTED once", open, 1, codes.Aborted, nil, 2, true},
		{"exactly_once, UNAVAILABLE three times", open, 3, codes.Unavailable, nil, 4, true},
		{"exactly_once, UNAVAILABLE for ever", open, 100, codes.Unavailable, nil, 4, false},
		{"exactly_once, another code", open, 1, codes.ResourceExhausted, nil, 1, false},
		{"NO_SIDE_EFFECTS, UNAVAILABLE once", look, 1, codes.Unavailable, nil, 2, true},
		{"NO_SIDE_EFFECTS, ABORTED", look, 1, codes.Aborted, nil, 1, false},
		{"neither, UNAVAILABLE", touch, 1, codes.Unavailable, nil, 1, false},
		{"requires_proof, UNAVAILABLE", pay, 1, codes.Unavailable, nil, 1, false},
		{"requires_proof and exactly_once, UNAVAILABLE", payOnce, 1, codes.Unavailable, nil, 1, false},
		{"requires_proof and exactly_once, ABORTED", payOnce, 1, codes.Aborted, nil, 1, false},
		{"the caller's own service config wins", open, 1, codes.Unavailable, []grpc.DialOption{grpc.WithDefaultServiceConfig(ownConfig)}, 1, false},
		{"the caller wants no retries", open, 1, codes.Unavailable, []grpc.DialOption{grpc.WithDisableRetry()}, 1, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, s := newTill(t)
			s.handle = func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) {
				if s.reached.Load() <= c.fails {
					return nil, status.Error(c.code, "as the test wants it")
				}
				return &ledgerv1.OpenAccountResponse{}, nil
			}
			err := ask(timeout(t), m.dialWith(clerk, c.opts...), c.method)
			if (err == nil) != c.ok || err != nil && status.Code(err) != c.code {
				t.Errorf("got %v, want success: %v", err, c.ok)
			}
			if n := s.reached.Load(); n != c.attempts {
				t.Errorf("%d attempts, want %d", n, c.attempts)
			}
			for _, id := range m.requestIDs() {
				if id == "" || id != m.requestIDs()[0] {
					t.Errorf("request_ids %q, want one and the same", m.requestIDs())
				}
			}
		})
	}
}

// Whoever answers for a name, in DNS for instance, would have requests repeated that must not be.
func TestAServiceConfigThatComesWithTheAddressesIsNotRead(t *testing.T) {
	t.Parallel()
	retrying := `{"methodConfig":[{"name":[{}],"retryPolicy":{"maxAttempts":3,"initialBackoff":"0.01s","maxBackoff":"0.01s","backoffMultiplier":1,"retryableStatusCodes":["UNAVAILABLE"]}}]}`
	for _, c := range []struct {
		name, method string
		opts         []grpc.DialOption
		attempts     int64
	}{
		{"a method that may be called once", touch, nil, 1},
		{"a method with a proof", pay, nil, 1},
		{"a method that the guard has called again", look, nil, 4},
		{"with the caller's own", touch, []grpc.DialOption{grpc.WithDefaultServiceConfig(strings.Replace(retrying, "3", "2", 1))}, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, s := newTill(t)
			s.handle = func(context.Context, *ledgerv1.OpenAccountRequest) (any, error) {
				return nil, status.Error(codes.Unavailable, "as the test wants it")
			}
			r := manual.NewBuilderWithScheme("named")
			r.BuildCallback = func(_ resolver.Target, cc resolver.ClientConn, _ resolver.BuildOptions) {
				r.InitialState(resolver.State{Addresses: []resolver.Address{{Addr: m.addr}}, ServiceConfig: cc.ParseServiceConfig(retrying)})
			}
			r.InitialState(resolver.State{})
			guard := m.newGuard(m.ca.Source(clerk), nil)
			conn, err := guard.NewClient("named:///till", m.ca.ID(server), append(c.opts, grpc.WithResolvers(r))...)
			must(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			if err := ask(timeout(t), conn, c.method); status.Code(err) != codes.Unavailable {
				t.Errorf("got %v, want UNAVAILABLE", err)
			}
			if n := s.reached.Load(); n != c.attempts {
				t.Errorf("%d attempts, want %d", n, c.attempts)
			}
		})
	}
}

// TestAStreamIsNotOpenedAgain: who reads one goes on somewhere else in it than where it was opened.
func TestAStreamIsNotOpenedAgain(t *testing.T) {
	t.Parallel()
	m, s := newTill(t)
	s.stream = func(grpc.ServerStream) error { return status.Error(codes.Unavailable, "as the test wants it") }
	if _, err := streamOnce(timeout(t), m.dial(clerk), gaze); status.Code(err) != codes.Unavailable || s.reached.Load() != 1 {
		t.Errorf("got %v after %d attempts, want UNAVAILABLE after one", err, s.reached.Load())
	}
}
