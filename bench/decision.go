package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/authz"

	ledgerv1 "example.com/rolecall/gen/ledger/v1"
)

const (
	decisionRounds = 9
	decisionTurn   = 100 * time.Millisecond
	engineRules    = 50
	// guarded is the package whose benchmark knows the decision, seen from this folder.
	guardedPackage = "../interceptors"
)

// measureDecision compares one decision of the guard with one of gRPC's own authorization engine. The guard's is not
// exported, so BenchmarkDecide of package interceptors is built and run, in turn with the engine.
func measureDecision(time.Duration) (_ []row, err error) {
	engine, stop, err := newEngine()
	if err != nil {
		return nil, fmt.Errorf("gRPC's authorization engine: %w", err)
	}
	defer func() { err = errors.Join(err, stop()) }()
	dir, err := os.MkdirTemp("", "rolecall-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, err := buildBenchmark(guardedPackage, dir)
	if err != nil {
		return nil, err
	}

	var theirs []sample
	var sizes []string
	ours := map[string][]sample{}
	for range decisionRounds {
		s, err := engine.measure()
		if err != nil {
			return nil, err
		}
		theirs = append(theirs, s)
		found, err := benchmarkDecide(binary)
		if err != nil {
			return nil, err
		}
		sizes = sizes[:0]
		for _, f := range found {
			sizes = append(sizes, f.size)
			ours[f.size] = append(ours[f.size], f.sample)
		}
	}
	var rows []row
	for _, size := range sizes {
		c := comparison{theirs, ours[size]}
		took := ratioRow(fmt.Sprintf("time of a decision, %s bindings; engine: %d rules", size, engineRules), c, wall, duration, target{})
		took.Target, took.Verdict = "≤ 80 ns", atMost(80).verdict(estimateOf(values(c.ours, wall)))
		made := differenceRow("its allocations", c, allocs, count, target{})
		made.Target, made.Verdict = "0", atMost(0).verdict(estimateOf(values(c.ours, allocs)))
		rows = append(rows, took, made)
	}
	return rows, nil
}

type sized struct {
	size   string
	sample sample
}

// A line of a benchmark's output, as `go help testflag` and the benchmark format describe it.
var decideLine = regexp.MustCompile(`(?m)^BenchmarkDecide/bindings=(\d+)\S*\s+\d+\s+([\d.]+) ns/op\s+\d+ B/op\s+(\d+) allocs/op`)

// benchmarkDecide runs the benchmark once.
func benchmarkDecide(binary string) ([]sized, error) {
	out, err := exec.Command(binary, "-test.run=^$", "-test.bench=^BenchmarkDecide$", "-test.benchtime="+decisionTurn.String()).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("run BenchmarkDecide: %w\n%s", err, out)
	}
	var found []sized
	for _, m := range decideLine.FindAllStringSubmatch(string(out), -1) {
		ns, err := strconv.ParseFloat(m[2], 64)
		if err != nil {
			return nil, fmt.Errorf("read the output of BenchmarkDecide: %w", err)
		}
		allocated, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			return nil, fmt.Errorf("read the output of BenchmarkDecide: %w", err)
		}
		found = append(found, sized{m[1], sample{wall: ns, allocs: allocated}})
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("BenchmarkDecide printed no result:\n%s", out)
	}
	return found, nil
}

// newEngine makes gRPC's own authorization engine with rules like ours, each of which lets one workload call one
// method; the middle one matches. It decides on a call over bare mutual TLS that is held open for it.
func newEngine() (_ side, stop func() error, err error) {
	engine, err := authz.NewStatic(enginePolicy())
	if err != nil {
		return side{}, nil, err
	}
	calls, done := make(chan context.Context, 1), make(chan struct{})
	p, err := newWorkloads().bare(&ledger{entered: func(ctx context.Context) {
		calls <- ctx
		<-done
	}})
	if err != nil {
		return side{}, nil, err
	}
	conn, err := p.dial()
	if err != nil {
		return side{}, nil, errors.Join(err, p.close())
	}
	called := make(chan error, 1)
	go func() {
		_, err := ledgerv1.NewLedgerServiceClient(conn).GetBalance(context.Background(), &ledgerv1.GetBalanceRequest{})
		called <- err
	}()
	stop = func() error {
		close(done)
		return errors.Join(<-called, conn.Close(), p.close())
	}
	select {
	case ctx := <-calls:
		return side{name: "gRPC's authorization engine", turn: decisionTurn, run: func(until time.Time) (int, error) { return decide(ctx, engine, until) }}, stop, nil
	case <-time.After(callTimeout):
		return side{}, nil, errors.Join(errors.New("the call to decide on did not arrive"), conn.Close(), p.close())
	}
}

func decide(ctx context.Context, engine *authz.StaticInterceptor, until time.Time) (int, error) {
	info := &grpc.UnaryServerInfo{FullMethod: ledgerv1.LedgerService_GetBalance_FullMethodName}
	handler := func(context.Context, any) (any, error) { return nil, nil }
	n := 0
	for ; n%100 != 0 || time.Now().Before(until); n++ {
		if _, err := engine.UnaryInterceptor(ctx, nil, info, handler); err != nil {
			return n, err
		}
	}
	return n, nil
}

func enginePolicy() string {
	rules := make([]string, engineRules)
	for i := range rules {
		workload, method := fmt.Sprintf("spiffe://mesh.local/service/other-%d", i), fmt.Sprintf("/other.v1.OtherService/Method%d", i)
		if i == engineRules/2 {
			workload, method = "spiffe://mesh.local"+clientPath, ledgerv1.LedgerService_GetBalance_FullMethodName
		}
		rules[i] = fmt.Sprintf(`{"name": "rule-%d", "source": {"principals": [%q]}, "request": {"paths": [%q]}}`, i, workload, method)
	}
	return fmt.Sprintf(`{"name": "bench", "allow_rules": [%s]}`, strings.Join(rules, ","))
}
